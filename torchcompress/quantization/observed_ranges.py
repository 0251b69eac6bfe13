"""The ranges of a program's values on calibration data, and the grids over them."""

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from torchcompress.core.errors import CalibrationError
from torchcompress.quantization.calibrate import (
    Batches,
    ProgramModule,
    check_finite,
    finite_values,
    pass_batches,
    value_names,
)
from torchcompress.quantization.observers import RangeObserver, symmetric
from torchcompress.quantization.program import Op, QParams
from torchcompress.quantization.ranges import moved_values

Extents = dict[str, tuple[float, float]]
"""Smallest and largest value seen, by value."""


def observe_grids(
    program: ProgramModule,
    batches: Batches,
    classes: Mapping[str, str],
    stored: Collection[str],
    *,
    histogram: bool,
    zero_centered: bool,
) -> tuple[dict[str, QParams], Extents]:
    """Runs all of the calibration data through a program and chooses grids.

    Args:
        program: The fused float program.
        batches: The data.
        classes: From a value to the class whose range it shares.
        stored: The classes to choose grids for.
        histogram: Make a second pass for histograms, and clip outliers where that lowers the
            squared error.
        zero_centered: Give every grid zero point 128.

    Returns:
        The grids of the values of these classes, and the smallest and largest finite number of
        each single value that has any.

    Raises:
        CalibrationError: A value that is not finite (names layer and batch), or a layer that the
            data never reached.
    """
    single = {value: RangeObserver() for value in classes}
    names, ran, at = value_names(program.program), set[str](), [0]
    finite = finite_values(program.program) | {v for v, name in classes.items() if name in stored}

    def widen(op: Op | None, value: str, made: Any) -> None:
        if not isinstance(made, Tensor) or made.numel() == 0 or made.dtype == torch.int64:
            return
        ran.add(value)
        if not made.isfinite().all():
            check_finite(made, names[value], at[0], infinite=value not in finite)
            made = made[made.isfinite()]
        if made.numel():
            single[value].update(made)

    pass_batches(program, batches.passing("calibrate"), batches, widen, at)
    observers: dict[str, RangeObserver] = {}
    for value, own in single.items():
        if program.types[value] in ("size", "index"):
            continue
        if value not in ran:
            raise CalibrationError(
                "calibration never ran this layer",
                where=names[value],
                hint="let forward= call the model, on batches that are not empty",
            )
        if classes[value] not in stored:
            continue
        shared = observers.setdefault(classes[value], RangeObserver())
        shared.low, shared.high = min(shared.low, own.low), max(shared.high, own.high)
    if histogram:
        repeats = moved_values(program.program)

        def count(op: Op | None, value: str, made: Any) -> None:
            if isinstance(made, Tensor) and value not in repeats and classes[value] in observers:
                observers[classes[value]].count(made)

        pass_batches(program, batches.passing("histograms"), batches, count)
    made = {name: observer.grid() for name, observer in observers.items()}
    if zero_centered:
        made = {name: symmetric(grid) for name, grid in made.items()}
    grids = {value: made[name] for value, name in classes.items() if name in made}
    return grids, {value: (own.low, own.high) for value, own in single.items() if own.seen}

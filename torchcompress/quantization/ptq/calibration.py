"""What algorithms measure about the values of the float program."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from torchcompress.quantization import interpreter
from torchcompress.quantization.calibrate import ProgramModule
from torchcompress.quantization.observers import RangeObserver, symmetric
from torchcompress.quantization.program import QParams
from torchcompress.quantization.ptq.samples import Inputs
from torchcompress.quantization.quantize_part import Draft
from torchcompress.quantization.ranges import moved_values, range_classes

Extents = dict[str, tuple[float, float]]


def each_value(
    module: ProgramModule, calls: Sequence[Inputs], see: Callable[[str, Tensor], None]
) -> None:
    """Shows a function every tensor that a float program makes of some calls."""
    with torch.no_grad():
        for inputs in calls:
            for _, value, made in interpreter.steps(
                module.program, module.tensors, inputs, types=module.types
            ):
                if isinstance(made, Tensor) and made.is_floating_point():
                    see(value, made)


def channel_peaks(
    module: ProgramModule, calls: Sequence[Inputs], last: dict[str, bool]
) -> dict[str, Tensor]:
    """Returns the largest magnitude of each channel, by value.

    Args:
        module: The float program.
        calls: Its inputs.
        last: For each value of interest, whether channels stand in the last dimension.
    """
    peaks: dict[str, Tensor] = {}

    def see(value: str, made: Tensor) -> None:
        if value in last:
            own = made.abs().movedim(-1 if last[value] else 1, 0).flatten(1).amax(1)
            peaks[value] = torch.maximum(peaks[value], own) if value in peaks else own

    each_value(module, calls, see)
    return peaks


def observed_grids(
    draft: Draft, calls: Sequence[Inputs], histogram: bool
) -> tuple[dict[str, QParams], Extents]:
    """Returns grids for the uint8 values of a draft as calibration would choose them, and extents.

    Args:
        draft: Whose layers may have changed since it was calibrated.
        calls: Inputs of the program.
        histogram: Clip outliers where that lowers the squared error.
    """
    module, classes = draft.float_module(), range_classes(draft.program)
    stored = draft.stored
    observers = {classes[value]: RangeObserver() for value in stored}
    single = {value: RangeObserver() for value in stored}

    def widen(value: str, made: Tensor) -> None:
        if value in single:
            observers[classes[value]].update(made)
            single[value].update(made)

    each_value(module, calls, widen)
    if histogram:
        moved = moved_values(draft.program)
        each_value(
            module,
            calls,
            lambda value, made: (
                observers[classes[value]].count(made)
                if value in single and value not in moved
                else None
            ),
        )
    extents = {value: (own.low, own.high) for value, own in single.items()}
    grids = {value: observers[classes[value]].grid() for value in stored}
    if draft.symmetric:
        grids = {value: symmetric(grid) for value, grid in grids.items()}
    return grids, extents

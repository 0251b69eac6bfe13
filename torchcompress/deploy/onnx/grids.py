"""Grids that a runtime needs and the int8 program does not use."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from torchcompress.quantization.inner_grids import needs_inner
from torchcompress.quantization.observers import grid_for, symmetric
from torchcompress.quantization.program import Op, Program, QParams
from torchcompress.quantization.value_types import ValueType, infer_types

_SLOPES: dict[str | None, float] = {"hardswish": 1.5, "silu": 1.1}
"""The largest slopes, rounded up."""


def limits(grid: QParams) -> tuple[float, float]:
    """Returns the smallest and largest real number on a grid."""
    return -grid.zero_point * grid.scale, (255 - grid.zero_point) * grid.scale


def symmetric_program(program: Program) -> Program:
    """Returns a program in which every grid is symmetric."""
    return program.with_ops(
        [op if op.out is None else replace(op, out=symmetric(op.out)) for op in program.ops]
    )


def changed_grids(program: Program) -> int:
    """Returns how many values' grids `symmetric_program` changes."""
    return sum(op.out is not None and symmetric(op.out) != op.out for op in program.ops)


def inner_grid(op: Op, types: Sequence[ValueType]) -> QParams | None:
    """Returns the grid that a convolution's own products stand on where they are stored.

    It covers what calibration saw, less what saturates or rounds to zero in the end anyhow.

    Args:
        op: The convolution.
        types: Of its inputs.

    Returns:
        None where none is needed, or the range is not known.
    """
    if not needs_inner(op, types):
        return None
    low, high = -math.inf, math.inf
    if op.out is not None:
        low, high = _effective(op.args["activation"], op.out)
    if len(types) > 1:
        residual = types[1]
        assert isinstance(residual, QParams)
        smallest, largest = limits(residual)
        low, high = low - largest, high - smallest
    if op.inner is not None:
        seen_low, seen_high = limits(op.inner)
        low, high = max(low, seen_low), min(high, seen_high)
    return grid_for(low, high) if math.isfinite(high - low) else None


def _effective(activation: str | None, out: QParams) -> tuple[float, float]:
    """Returns the inputs of an activation beyond which its output on a grid does not change."""
    low, high = limits(out)
    if activation == "relu":
        return 0.0, high
    if activation == "hardswish":
        return -3.0, high if high >= 3 else (math.sqrt(9 + 24 * max(high, 0.0)) - 3) / 2
    if activation == "silu":
        # silu(x) > x - 0.28 bounds the inverse; below -1.28 the function climbs back to 0.
        top = _crossing(_silu, max(high, 0.0), 0.0, high + 0.3)
        return _crossing(_silu, -out.scale / 2, -1.28, -40.0), top
    return (low, high) if activation is None else (-math.inf, math.inf)


def allowances(program: Program) -> dict[str, int | None]:
    """Returns by how many steps each uint8 value may change where inner grids are stored.

    One step is the rounding of other arithmetic. None is no bound: float operations stand between
    an inner grid and the value. Float values that an inner grid changes are None as well.
    """
    types = infer_types(program)
    found: dict[str, int | None] = {}
    for op in program.ops:
        inner = inner_grid(op, [types[value] for value in op.inputs])
        unbound = any(
            found.get(value, 1) is None and not isinstance(types[value], QParams)
            for value in op.inputs
        )
        if isinstance(types[op.output], QParams):
            found[op.output] = None if unbound else 1
            if inner is not None and op.out is not None and not unbound:
                slope = _SLOPES.get(op.args["activation"], 1.0)
                found[op.output] = 1 + math.ceil(slope * inner.scale / (2 * op.out.scale))
        elif unbound or inner is not None:
            found[op.output] = None
    return found


def _silu(x: float) -> float:
    return x / (1 + math.exp(-x))


def _crossing(
    function: Callable[[float], float], target: float, start: float, stop: float
) -> float:
    """Returns where a function that is monotone between two points meets a value."""
    for _ in range(60):
        middle = (start + stop) / 2
        if (function(middle) < target) == (function(start) < target):
            start = middle
        else:
            stop = middle
    return stop

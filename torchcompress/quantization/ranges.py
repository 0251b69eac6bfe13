"""Which values share a range, and which range that is."""

import warnings
from collections.abc import Mapping

from torchcompress.quantization.operations import KINDS, tensor_operands
from torchcompress.quantization.program import Op, Program
from torchcompress.quantization.value_types import SHARING

_UNEVEN = 4.0


def range_classes(program: Program) -> dict[str, str]:
    """Returns a representative for each value; values of one class share a range.

    Operations that only move or pick values tie their output to their inputs.
    """
    parent: dict[str, str] = {}

    def find(value: str) -> str:
        parent.setdefault(value, value)
        while parent[value] != value:
            parent[value] = parent[parent[value]]
            value = parent[value]
        return value

    for _, value in program.inputs:
        find(value)
    for op in program.ops:
        find(op.output)
        if op.kind in SHARING:
            for value in _valued(op):
                parent[find(value)] = find(op.output)
    return {value: find(value) for value in parent}


def _valued(op: Op) -> tuple[str, ...]:
    """Returns the operands whose values an op moves: no sizes, no index."""
    operands = tensor_operands(op)
    return operands[:-1] if KINDS[op.kind].indexed else operands


def moved_values(program: Program) -> set[str]:
    """Returns the values that repeat others, so that their histogram adds nothing."""
    return {op.output for op in program.ops if op.kind in SHARING}


def warn_uneven_branches(
    program: Program, extents: Mapping[str, tuple[float, float]], grids: Mapping[str, object]
) -> None:
    """Warns where concatenated branches differ so much that one range wastes bits.

    Args:
        program: The fused program.
        extents: Smallest and largest value seen, by value.
        grids: By value that will be uint8.
    """
    for op in program.ops:
        if op.kind != "cat" or op.output not in grids:
            continue
        widths = [max(extents[v][1], 0.0) - min(extents[v][0], 0.0) for v in op.inputs]
        if max(widths) > _UNEVEN * min(widths):
            ratio = "a constant branch" if min(widths) == 0 else f"{max(widths) / min(widths):.3g}x"
            warnings.warn(
                f"{op.name}: concatenated branches differ in range ({ratio}); they share one "
                "uint8 grid, so the narrow ones lose precision",
                UserWarning,
                stacklevel=2,
            )

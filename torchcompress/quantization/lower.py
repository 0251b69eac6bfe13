"""From the fused float program and its ranges to the int8 program."""

import itertools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

from torchcompress.quantization.kinds.pooling import is_mean_of_windows
from torchcompress.quantization.operations import INTEGER, ROUNDED
from torchcompress.quantization.program import (
    Op,
    Program,
    QParams,
    Shapes,
    rename_result,
    result_values,
)
from torchcompress.quantization.value_types import SHARING


def int8_ops(program: Program, shapes: Shapes, excluded: Collection[str]) -> set[str]:
    """Returns the outputs of the operations that will compute on integers."""
    # What is made of parameters alone is computed once: it costs nothing in float.
    once = program.without_inputs()
    ops = [op for op in program.ops if op.output not in once]
    return {op.output for op in ops if _runs_int8(op, shapes, excluded)}


def _runs_int8(op: Op, shapes: Shapes, excluded: Collection[str]) -> bool:
    if op.name in excluded:
        return False
    if op.kind in ("conv1d", "conv2d", "conv3d", "linear"):
        return True
    if op.kind == "affine":
        return len(shapes[op.output]) == 4
    return op.kind == "avg_pool2d" and is_mean_of_windows(op.args)


def uint8_classes(program: Program, classes: Mapping[str, str], int8: Collection[str]) -> set[str]:
    """Returns the classes of values that are stored as uint8.

    Integer operations read uint8; a fused sum and an average pooling also write nothing else.
    All other values stay float32, so that a map crosses as seldom as possible.
    """
    found: set[str] = set()
    for op in program.ops:
        if op.output in int8:
            found.update(classes[value] for value in op.inputs)
            if len(op.inputs) > 1 or op.kind == "avg_pool2d":
                found.add(classes[op.output])
    return found


@dataclass
class _Lowering:
    """The int8 program so far: the uint8 and float32 form of each value, where it exists."""

    grids: Mapping[str, QParams]
    ids: Iterator[str]
    ops: list[Op] = field(default_factory=list)
    uint8: dict[str, str] = field(default_factory=dict)
    plain: dict[str, str] = field(default_factory=dict)
    made: dict[str, str] = field(default_factory=dict)

    def as_uint8(self, value: str) -> str:
        if value not in self.uint8:
            made, grid = next(self.ids), self.grids[value]
            self.ops.append(Op("quantize", made, (self.plain[value],), out=grid))
            self.uint8[value] = made
        return self.uint8[value]

    def as_float(self, value: str) -> str:
        if value not in self.plain:
            made = next(self.ids)
            self.ops.append(Op("dequantize", made, (self.uint8[value],)))
            self.plain[value] = made
        return self.plain[value]

    def as_stored(self, value: str) -> str:
        if value in self.grids:
            return self.as_uint8(value)
        return self.plain[value]

    def put(self, op: Op, inputs: tuple[str, ...], *, uint8: bool = False) -> None:
        made = next(self.ids)
        self.ops.append(replace(op, inputs=inputs, output=made))
        (self.uint8 if uint8 else self.plain)[op.output] = made
        self.made[op.output] = made


def lower(
    program: Program,
    int8: Collection[str],
    grids: Mapping[str, QParams],
    slower: Collection[str] = (),
) -> tuple[Program, dict[str, str]]:
    """Writes the int8 program: integer operations, and the crossings between the two worlds.

    Args:
        program: The fused float program.
        int8: Outputs of the operations that compute on integers.
        grids: By value that is stored as uint8.
        slower: Outputs of layers that compute in float32 on int8 weights.

    Returns:
        The int8 program, and for each operation's output in `program` its value in the new one.
    """
    state = _Lowering(grids, (f"v{n}" for n in itertools.count()))
    inputs: list[tuple[str, str]] = []
    for name, value in program.inputs:
        state.plain[value] = next(state.ids)
        inputs.append((name, state.plain[value]))
    rounded = _rounded(program, int8, grids)
    for op in program.ops:
        if op.output in int8:
            operands = tuple(state.as_uint8(value) for value in op.inputs)
            made = replace(op, int8=True, out=grids.get(op.output))
            state.put(_as_convolution(made), operands, uint8=made.out is not None)
        elif op.kind in SHARING:
            operands = tuple(state.as_stored(value) for value in op.inputs)
            state.put(op, operands, uint8=op.output in grids)
        elif op.kind in INTEGER or op.kind == "global_avg_pool":
            operands = tuple(state.as_stored(value) for value in op.inputs)
            both = op.kind == "global_avg_pool" and {op.output, *op.inputs} <= grids.keys()
            made = replace(op, int8=True, out=grids[op.output]) if both else op
            state.put(made, operands, uint8=both)
        else:
            operands = tuple(state.as_float(value) for value in op.inputs)
            out = grids[op.output] if op.output in rounded else None
            made = replace(op, int8=op.output in slower, out=out)
            state.put(made, operands, uint8=out is not None)
    outputs = {value: state.as_float(value) for value in result_values(program.result)}
    result = rename_result(program.result, outputs)
    return replace(program, inputs=tuple(inputs), ops=tuple(state.ops), result=result), state.made


def _rounded(program: Program, int8: Collection[str], grids: Mapping[str, QParams]) -> set[str]:
    """Returns the float results that go straight to uint8, as only integer operations read them."""
    readers = program.readers()
    return {
        op.output
        for op in program.ops
        if op.kind in ROUNDED
        and op.output in grids
        and all(reader is not None and reader.output in int8 for reader in readers[op.output])
    }


def _as_convolution(op: Op) -> Op:
    """A batch norm alone is a depthwise 1x1 convolution."""
    if op.kind != "affine":
        return op
    args = {
        "stride": [1, 1],
        "padding": [0, 0],
        "dilation": [1, 1],
        "groups": op.args["channels"],
        "activation": op.args["activation"],
    }
    return replace(op, kind="conv2d", args=args)

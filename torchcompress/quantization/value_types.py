"""What each value of a program is: float32, uint8 on a grid, a size, or int64 that index."""

from typing import Literal

from torchcompress.core.errors import ArtifactError
from torchcompress.quantization.operations import KINDS, MOVEMENT, tensor_operands
from torchcompress.quantization.program import Op, Program, QParams, result_values

ValueType = QParams | Literal["float", "size", "index"]
Types = dict[str, ValueType]

SHARING = MOVEMENT | {"max_pool2d"}
"""Kinds whose output has the range of their input."""


def infer_types(program: Program) -> Types:
    """Returns the type of every value.

    Raises:
        ArtifactError: A value read before it is made, made twice, or of a type that its reader
            does not take.
    """
    types: Types = {}
    for _, value in program.inputs:
        _define(types, value, "float", "inputs")
    for op in program.ops:
        for value in op.inputs:
            if value not in types:
                raise _malformed(op, f"{value!r} is read before it is made")
        _define(types, op.output, _output_type(op, [types[v] for v in op.inputs]), op.name)
    for value in result_values(program.result):
        if types.get(value) != "float":
            raise ArtifactError(f"{value!r} is not a float32 value", where="result")
    return types


def _define(types: Types, value: str, kind: ValueType, where: str) -> None:
    if value in types:
        raise ArtifactError(f"{value!r} is made twice", where=where)
    types[value] = kind


def _output_type(op: Op, inputs: list[ValueType]) -> ValueType:
    kind, count = KINDS[op.kind], len(tensor_operands(op))
    tensors, sizes = inputs[:count], inputs[count:]
    _expect(op, all(t == "size" for t in sizes), "sizes")
    _expect(op, "size" not in tensors, "a tensor")
    if kind.result == "size":
        return "size"
    if op.kind == "constant":
        return "float" if op.args["dtype"] == "float32" else "index"
    if kind.indexed:
        _expect(op, tensors.pop() == "index", "an index")
    if op.kind in SHARING:
        _expect(op, all(t == tensors[0] for t in tensors), "one grid")
        return tensors[0]
    integer = [isinstance(t, QParams) for t in tensors]
    if op.kind == "global_avg_pool":
        _expect(op, integer[0] or tensors[0] == "float", "a map of numbers")
        _expect(op, integer[0] or not op.int8, "a uint8 map")
        return op.out or "float"
    on_float = op.layer is not None and op.out is None and not any(integer)
    if (op.int8 and not on_float) or op.kind == "dequantize":
        _expect(op, all(integer), "uint8 values")
        return op.out or "float"
    _expect(op, all(t == "float" for t in tensors), "float32 values")
    return op.out or "float"


def _expect(op: Op, met: bool, what: str) -> None:
    if not met:
        raise _malformed(op, f"{op.kind} takes {what}")


def _malformed(op: Op, what: str) -> ArtifactError:
    return ArtifactError(what, where=f"program: {op.name or op.output}")

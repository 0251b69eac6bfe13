"""From an int8 program to one flat Python function for one set of input shapes."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from torchcompress.core.errors import CompressError
from torchcompress.quantization import interpreter
from torchcompress.quantization.int8 import kernels, reference
from torchcompress.quantization.operations import KINDS, Tensors, tensor_operands
from torchcompress.quantization.program import Op, Program, map_result, result_values
from torchcompress.quantization.value_types import Types, ValueType

InputShapes = tuple[tuple[int, ...], ...]

_MISFITS = (RuntimeError, IndexError, ValueError, ArithmeticError)
"""What operations raise for shapes that do not fit."""
_OWNERS = frozenset({"conv2d", "max_pool2d"})
"""Kinds that always write a new, dense channels_last map."""
_COMPUTING = _OWNERS | {"linear", "quantize", "avg_pool2d", "global_avg_pool", "dequantize", "size"}
"""Kinds whose output never shares memory with their input."""


def infer_shapes(
    program: Program, types: Types, tensors: Tensors, shapes: InputShapes
) -> dict[str, tuple[int, ...]]:
    """Returns the shape of every tensor, without computing any.

    Args:
        program: The int8 program.
        types: Of its values.
        tensors: Of its layers.
        shapes: Of its inputs.

    Raises:
        CompressError: The inputs do not fit the program.
    """
    found: dict[str, tuple[int, ...]] = {}

    def observe(op: Op | None, value: str, made: Any) -> None:
        if isinstance(made, Tensor):
            found[value] = tuple(made.shape)

    nowhere = {name: tensor.to("meta") for name, tensor in tensors.items()}
    inputs = [torch.empty(shape, dtype=torch.float32, device="meta") for shape in shapes]
    try:
        interpreter.run(program, nowhere, inputs, types=types, observe=observe)
    except _MISFITS as error:
        raise CompressError(
            f"inputs of shape {', '.join(str(list(s)) for s in shapes)} do not fit: {error}",
            where="x",
            hint="the model takes the shapes that it was quantized with; batch and image size may"
            " differ",
        ) from error
    return found


def emit(
    program: Program, types: Types, tensors: Tensors, shapes: InputShapes, native: bool
) -> Callable[..., Any]:
    """Returns one function of tensors that runs the program.

    A tree of modules costs as much Python time as the arithmetic at batch 1; straight code does
    not. The code holds only names made here: nothing of the program's text enters it.

    Args:
        program: The int8 program.
        types: Of its values.
        tensors: Of its layers.
        shapes: Of the inputs for which weights are packed.
        native: Use the native kernels, else the reference.
    """
    known = infer_shapes(program, types, tensors, shapes)
    last = interpreter.last_reads(program)
    owned = _owned_values(program, last)
    names = {value: f"x{number}" for number, (_, value) in enumerate(program.inputs)}
    names.update({op.output: f"y{number}" for number, op in enumerate(program.ops)})
    scope: dict[str, Any] = {"to_channels_last": interpreter.to_channels_last}
    lines = [f"def run({', '.join(names[value] for _, value in program.inputs)}):"]
    lines += [f" {names[v]} = to_channels_last({names[v]})" for _, v in program.inputs]
    fixed = _fixed_values(program, types, tensors, known)
    scope.update({names[value]: made for value, made in fixed.items()})
    for number, op in enumerate(program.ops):
        if op.output in fixed:
            continue
        operand_types: list[ValueType] = [types[value] for value in op.inputs]
        operand_shapes = [known.get(value, ()) for value in op.inputs]
        scope[f"f{number}"] = (
            kernels.bind(op, operand_types, tensors, operand_shapes, op.output in owned)
            if native
            else reference.bind(op, operand_types, tensors)
        )
        operands = ", ".join(names[value] for value in op.inputs)
        lines.append(f" {names[op.output]} = f{number}({operands})")
        dead = [names[value] for value in last.get(number, ()) if value not in fixed]
        if dead:
            lines.append(f" del {', '.join(dead)}")
    outputs = list(dict.fromkeys(result_values(program.result)))
    lines.append(f" return ({''.join(names[value] + ', ' for value in outputs)})")
    exec(compile("\n".join(lines), "<int8 program>", "exec"), scope)
    function = scope["run"]
    if outputs == [program.result]:
        return lambda *xs: function(*xs)[0]
    return lambda *xs: map_result(program.result, dict(zip(outputs, function(*xs), strict=True)))


def _fixed_values(
    program: Program, types: Types, tensors: Tensors, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Any]:
    """Returns the values that only parameters and the shapes of the inputs decide.

    Raises:
        CompressError: They cannot be computed, such as an index beyond its table.
    """
    fixed: dict[str, Any] = {}
    for op in program.ops:
        if op.kind == "size":
            fixed[op.output] = shapes[op.inputs[0]][op.args["dim"]]
        elif op.kind == "rank":
            fixed[op.output] = len(shapes[op.inputs[0]])
        elif all(value in fixed for value in op.inputs):
            function = reference.bind(op, [types[value] for value in op.inputs], tensors)
            try:
                fixed[op.output] = function(*(fixed[value] for value in op.inputs))
            except _MISFITS as error:
                raise CompressError(str(error), where=op.name or op.kind) from error
        elif KINDS[op.kind].indexed and tensor_operands(op)[-1] in fixed:
            _check_index(op, fixed[tensor_operands(op)[-1]], shapes[op.inputs[0]])
    return fixed


def _check_index(op: Op, index: Tensor, shape: tuple[int, ...]) -> None:
    size = shape[op.args.get("dim", 0)]
    if not bool(((index >= -size) & (index < size)).all()):
        raise CompressError(f"an index is out of bounds of {size} entries", where=op.name)


def _owned_values(program: Program, last: dict[int, list[str]]) -> set[str]:
    """Returns the outputs of fused sums that may overwrite their residual.

    That is safe where nothing reads the residual afterwards, directly or through a view.
    """
    makers = {op.output: op for op in program.ops}
    viewed = {v for op in program.ops if op.kind not in _COMPUTING for v in op.inputs}
    found: set[str] = set()
    for number, op in enumerate(program.ops):
        if op.kind != "conv2d" or len(op.inputs) < 2:
            continue
        residual = op.inputs[1]
        maker = makers.get(residual)
        fresh = maker is not None and maker.kind in _OWNERS and residual not in viewed
        if fresh and residual != op.inputs[0] and residual in last.get(number, ()):
            found.add(op.output)
    return found

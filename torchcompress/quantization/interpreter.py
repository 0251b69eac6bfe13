"""Runs a program op by op: for calibration, for shapes, and as the reference."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from torchcompress.quantization.int8 import reference
from torchcompress.quantization.operations import CHANNELS_LAST, KINDS, Function, Tensors
from torchcompress.quantization.program import Op, Program, map_result, result_values
from torchcompress.quantization.value_types import Types, infer_types

Bind = Callable[[Op, Any, Tensors, Any], Function]
Observe = Callable[[Op | None, str, Any], None]

_OVER_A_DIMENSION = ("softmax", "log_softmax", "normalize")


def run(
    program: Program,
    tensors: Tensors,
    inputs: Sequence[Tensor],
    *,
    types: Types | None = None,
    bind: Bind = reference.bind,
    observe: Observe | None = None,
) -> Any:
    """Computes a program.

    Args:
        program: What to compute.
        tensors: Of its layers, by name.
        inputs: In the order of `program.inputs`.
        types: Of its values, where known.
        bind: From an op to its function: the reference or the native kernels.
        observe: Is told each value: the op that made it (None for an input), its id, itself.

    Returns:
        The result, in the containers that the model returned.
    """
    wanted = set(result_values(program.result))
    results: dict[str, Any] = {}
    for op, value, made in steps(program, tensors, inputs, types=types, bind=bind):
        if observe is not None:
            observe(op, value, made)
        if value in wanted:
            results[value] = made
    return map_result(program.result, results)


def steps(
    program: Program,
    tensors: Tensors,
    inputs: Sequence[Tensor],
    *,
    types: Types | None = None,
    bind: Bind = reference.bind,
) -> Iterator[tuple[Op | None, str, Any]]:
    """Yields each value as it is made: the op that made it (None for an input), its id, itself.

    Args are those of `run`. A value is held until its last reader has run.
    """
    types = infer_types(program) if types is None else types
    env: dict[str, Any] = {}
    for (_, value), tensor in zip(program.inputs, inputs, strict=True):
        env[value] = to_channels_last(tensor)
        yield None, value, env[value]
    last = last_reads(program)
    for index, op in enumerate(program.ops):
        env[op.output] = compute(op, env, tensors, types, bind)
        yield op, op.output, env[op.output]
        for value in last.get(index, ()):
            del env[value]


def compute(op: Op, env: Mapping[str, Any], tensors: Tensors, types: Types, bind: Bind) -> Any:
    """Returns what one op makes of the values before it.

    Args:
        op: The op.
        env: At least its operands, by value id.
        tensors: Of its layer.
        types: Of its operands.
        bind: From an op to its function.
    """
    operands = [env[value] for value in op.inputs]
    shapes = [tuple(v.shape) if isinstance(v, Tensor) else () for v in operands]
    _check_rank(op, shapes)
    return bind(op, [types[value] for value in op.inputs], tensors, shapes)(*operands)


def _check_rank(op: Op, shapes: Sequence[tuple[int, ...]]) -> None:
    """Refuses what some kernels accept and others do not: a map without a batch."""
    rank = KINDS[op.kind].rank
    if rank is not None and len(shapes[0]) != rank:
        sides = ["length"] if rank == 3 else ["time", "height", "width"][5 - rank :]
        raise ValueError(f"{op.name or op.kind} takes [batch, channels, {', '.join(sides)}]")
    # Without data, some operations take a dimension that is not there.
    if op.kind in _OVER_A_DIMENSION and not -len(shapes[0]) <= op.args["dim"] < len(shapes[0]):
        raise ValueError(f"{op.name or op.kind} has no dimension {op.args['dim']}")


def to_channels_last(x: Tensor) -> Tensor:
    """Returns images in the layout that the kernels want, everything else as it is."""
    return x.contiguous(memory_format=CHANNELS_LAST) if x.dim() == 4 else x


def last_reads(program: Program) -> dict[int, list[str]]:
    """Returns, for each op index, the values that nothing reads after it."""
    last: dict[str, int] = {}
    for index, op in enumerate(program.ops):
        last[op.output] = index
        last.update(dict.fromkeys(op.inputs, index))
    for value in result_values(program.result):
        last.pop(value, None)
    found: dict[int, list[str]] = {}
    for value, index in last.items():
        found.setdefault(index, []).append(value)
    return found

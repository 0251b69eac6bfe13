"""The range of a convolution before its sum and activation, for runtimes that store it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from torchcompress.quantization import interpreter
from torchcompress.quantization.observers import grid_for
from torchcompress.quantization.operations import Function, Tensors
from torchcompress.quantization.program import Op, Program, QParams
from torchcompress.quantization.value_types import ValueType

CLAMPS = (None, "relu", "relu6")
"""Activations that a grid's own ends can stand for."""


def with_inner_grids(
    program: Program, tensors: Tensors, inputs: Sequence[Tensor], bind: interpreter.Bind
) -> Program:
    """Returns an int8 program whose convolutions know the range of their own sums of products.

    The kernels here never store these values, but those of other runtimes do (see `needs_inner`).

    Args:
        program: The int8 program.
        tensors: Of its layers.
        inputs: One calibration batch.
        bind: The kernels to run on.
    """
    found: dict[str, QParams] = {}

    def observing(op: Op, types: Any, tensors: Tensors, shapes: Any) -> Function:
        run = bind(op, types, tensors, shapes)
        if not needs_inner(op, types):
            return run
        plain = bind(bare(op), types[:1], tensors, shapes[:1])

        def both(x: Tensor, *residual: Tensor) -> Tensor:
            low, high = torch.aminmax(plain(x))
            found[op.output] = grid_for(low.item(), high.item())
            return run(x, *residual)

        return both

    with torch.no_grad():
        interpreter.run(program, tensors, inputs, bind=observing)
    return program.with_ops(
        [replace(op, inner=found[op.output]) if op.output in found else op for op in program.ops]
    )


def needs_inner(op: Op, types: Sequence[ValueType]) -> bool:
    """Returns whether a kernel that only writes uint8 would need a grid that `op.out` is not.

    Args:
        op: The operation.
        types: Of its inputs.
    """
    if not takes_inner(op) or not isinstance(types[0], QParams):
        return False
    return len(op.inputs) > 1 or op.out is None or op.args["activation"] not in CLAMPS


def bare(op: Op) -> Op:
    """Returns a convolution without its sum and activation, with a float32 output."""
    args = {**op.args, "activation": None}
    return replace(op, inputs=op.inputs[:1], args=args, out=None, inner=None)


def takes_inner(op: Op) -> bool:
    """Returns whether an operation of this kind may know its inner grid."""
    return op.int8 and op.kind in ("conv1d", "conv2d", "conv3d")

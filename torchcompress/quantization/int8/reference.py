"""The reference: the same integers in float64 on any device, the oracle of the kernels."""

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from torchcompress.quantization.operations import (
    CHANNELS_LAST,
    INTEGER,
    MOVEMENT,
    Function,
    Tensors,
    activate,
    dequantizer,
    float_function,
    movement_function,
    quantizer,
)
from torchcompress.quantization.program import Op, QParams
from torchcompress.quantization.value_types import ValueType


def bind(op: Op, types: Sequence[ValueType], tensors: Tensors, shapes: object = None) -> Function:
    """Returns the function of an op, from its inputs to its output.

    Args:
        op: The operation.
        types: Of its inputs.
        tensors: By name.
        shapes: Of its inputs; not needed here.
    """
    if op.kind in MOVEMENT or op.kind in INTEGER:
        grid = types[0] if types else None
        return movement_function(op, grid.zero_point if isinstance(grid, QParams) else 0)
    if op.kind == "quantize":
        grid = grid_of(op.out)
        return quantizer(grid.scale, grid.zero_point)
    if not types or not isinstance(types[0], QParams):
        function = float_function(*with_float_weight(op, tensors))
        return function if op.out is None else _rounded(function, op.out)
    return _INTEGER_KINDS[op.kind](op, types, tensors)


def with_float_weight(op: Op, tensors: Tensors) -> tuple[Op, Tensors]:
    """Returns an op that computes in float32 as one without integers, and its tensors.

    Args:
        op: Any; a layer may have int8 weights.
        tensors: By name.
    """
    if not op.int8:
        return op, tensors
    weight, scale = tensors[f"{op.layer}.weight"], tensors[f"{op.layer}.scale"]
    real = weight.float() * scale.view(-1, *[1] * (weight.dim() - 1))
    return replace(op, int8=False), {**tensors, f"{op.layer}.weight": real}


def _rounded(function: Function, grid: QParams) -> Function:
    to_grid = quantizer(grid.scale, grid.zero_point)
    return lambda *xs: to_grid(function(*xs))


def grid_of(value: ValueType | None) -> QParams:
    """Returns a value's grid, which the caller knows it to have."""
    assert isinstance(value, QParams)
    return value


def _finish(y: Tensor, out: QParams | None) -> Tensor:
    if out is None:
        return y.float()
    q = (y / out.scale).add_(out.zero_point).round_().clamp_(0, 255).to(torch.uint8)
    return q.contiguous(memory_format=CHANNELS_LAST) if q.dim() == 4 else q


def _real(q: Tensor, grid: QParams) -> Tensor:
    return (q.double() - grid.zero_point) * grid.scale


_CONVOLUTIONS = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}
"""By the rank of their input."""


def _convolution(op: Op, types: Sequence[ValueType], tensors: Tensors) -> Function:
    grid, args = grid_of(types[0]), op.args
    weight = tensors[f"{op.layer}.weight"].double()
    function, tail = _CONVOLUTIONS[weight.dim()], [1] * (weight.dim() - 2)
    gain = (tensors[f"{op.layer}.scale"].double() * grid.scale).view(-1, *tail)
    bias = tensors[f"{op.layer}.bias"].double().view(-1, *tail)
    settings = (args["stride"], args["padding"], args["dilation"], args["groups"])

    def run(x: Tensor, *residual: Tensor) -> Tensor:
        sums = function(x.double() - grid.zero_point, weight, None, *settings)
        y = sums * gain + bias
        if residual:
            # The kernel writes into the residual: nothing may be broadcast.
            if residual[0].shape != y.shape:
                raise ValueError(f"{op.name} adds maps of different shapes")
            y = y + _real(residual[0], grid_of(types[1]))
        return _finish(activate(y, args["activation"]), op.out)

    return run


def _linear(op: Op, types: Sequence[ValueType], tensors: Tensors) -> Function:
    grid = grid_of(types[0])
    weight = tensors[f"{op.layer}.weight"].double()
    gain = tensors[f"{op.layer}.scale"].double() * grid.scale
    bias = tensors[f"{op.layer}.bias"].double()

    def run(x: Tensor) -> Tensor:
        y = F.linear(x.double() - grid.zero_point, weight) * gain + bias
        return _finish(activate(y, op.args["activation"]), op.out)

    return run


def _max_pool2d(op: Op, types: Sequence[ValueType], tensors: Tensors) -> Function:
    def run(x: Tensor) -> Tensor:
        y = F.max_pool2d(x.float(), **op.args).to(torch.uint8)
        return y.contiguous(memory_format=CHANNELS_LAST)

    return run


def _avg_pool2d(op: Op, types: Sequence[ValueType], tensors: Tensors) -> Function:
    grid = grid_of(types[0])
    return lambda x: _finish(F.avg_pool2d(_real(x, grid), **op.args), op.out)


def _global_avg_pool(op: Op, types: Sequence[ValueType], tensors: Tensors) -> Function:
    grid, keepdim = grid_of(types[0]), op.args["keepdim"]
    return lambda x: _finish(_real(x, grid).mean((2, 3), keepdim=keepdim), op.out)


def _dequantize(op: Op, types: Sequence[ValueType], tensors: Tensors) -> Function:
    grid = grid_of(types[0])
    return dequantizer(grid.scale, grid.zero_point)


_INTEGER_KINDS = {
    "conv1d": _convolution,
    "conv2d": _convolution,
    "conv3d": _convolution,
    "linear": _linear,
    "max_pool2d": _max_pool2d,
    "avg_pool2d": _avg_pool2d,
    "global_avg_pool": _global_avg_pool,
    "dequantize": _dequantize,
}

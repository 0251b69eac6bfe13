"""Native kernels: oneDNN calls on plain uint8 and int8 tensors, on the CPU."""

from typing import Any

import torch
from torch import Tensor

from torchcompress.quantization.int8 import reference
from torchcompress.quantization.int8.reference import grid_of
from torchcompress.quantization.operations import CHANNELS_LAST, Function, Tensors
from torchcompress.quantization.program import Op, QParams
from torchcompress.quantization.types import ValueType

_POST_OPS: dict[str | None, tuple[str, list[float]]] = {
    None: ("none", []),
    "relu": ("relu", []),
    "relu6": ("hardtanh", [0.0, 6.0]),
    "hardswish": ("hardswish", []),
    "silu": ("swish", []),
}
RESIDUAL_ACTIVATIONS = (None, "relu")
"""What the fused residual sum can be followed by."""


def bind(
    op: Op,
    types: list[ValueType],
    tensors: Tensors,
    shapes: list[tuple[int, ...]] | None,
    overwrite: bool = False,
) -> Function:
    """Returns the function of an op, its weights packed for these shapes.

    Args:
        op: The operation.
        types: Of its inputs.
        tensors: By name.
        shapes: Of its inputs. Another shape gives the same numbers, more slowly.
        overwrite: A fused residual sum may write into its residual.
    """
    native = _KERNELS.get(op.kind)
    if native is None or shapes is None or not isinstance(types[0], QParams):
        return reference.bind(op, types, tensors)
    return native(op, types, tensors, shapes[0], overwrite)


def _output(out: QParams | None) -> tuple[float, int, torch.dtype]:
    return (1.0, 0, torch.float32) if out is None else (out.scale, out.zero_point, torch.uint8)


def _pack_conv2d(
    weight: Tensor, scale: Tensor, grid: QParams, settings: tuple[Any, ...], shape: tuple[int, ...]
) -> Tensor:
    return torch.ops.onednn.qconv_prepack(
        weight, scale, grid.scale, grid.zero_point, *settings, list(shape)
    )


def _conv2d(
    op: Op, types: list[ValueType], tensors: Tensors, shape: tuple[int, ...], overwrite: bool
) -> Function:
    weight, scale = tensors[f"{op.layer}.weight"], tensors[f"{op.layer}.scale"]
    bias = tensors[f"{op.layer}.bias"]
    if len(types) > 1:
        return _conv2d_sum(op, types, weight, scale, bias, shape, overwrite)
    settings = tuple(op.args[key] for key in ("stride", "padding", "dilation", "groups"))
    post_op = _POST_OPS[op.args["activation"]]
    return _convolution(grid_of(types[0]), weight, scale, bias, settings, shape, op.out, post_op)


def _convolution(
    grid: QParams,
    weight: Tensor,
    scale: Tensor,
    bias: Tensor | None,
    settings: tuple[Any, ...],
    shape: tuple[int, ...],
    out: QParams | None,
    post_op: tuple[str, list[float]],
) -> Function:
    packed = _pack_conv2d(weight, scale, grid, settings, shape)
    zeros = torch.zeros(len(scale), dtype=torch.int32)
    stride, padding, dilation, groups = settings
    out_scale, out_zero, dtype = _output(out)
    x_scale, x_zero, (name, scalars) = grid.scale, grid.zero_point, post_op
    call = torch.ops.onednn.qconv_pointwise.default

    def run(x: Tensor) -> Tensor:
        return call(
            x,
            x_scale,
            x_zero,
            packed,
            scale,
            zeros,
            bias,
            stride,
            padding,
            dilation,
            groups,
            out_scale,
            out_zero,
            dtype,
            name,
            scalars,
            "",
        )

    return run


def _conv2d_sum(
    op: Op,
    types: list[ValueType],
    weight: Tensor,
    scale: Tensor,
    bias: Tensor,
    shape: tuple[int, ...],
    overwrite: bool,
) -> Function:
    grid, residual, out = grid_of(types[0]), grid_of(types[1]), grid_of(op.out)
    settings = tuple(op.args[key] for key in ("stride", "padding", "dilation", "groups"))
    stride, padding, dilation, groups = settings
    packed = _pack_conv2d(weight, scale, grid, settings, shape)
    zeros = torch.zeros(len(scale), dtype=torch.int32)
    name, scalars = _POST_OPS[op.args["activation"]]
    call = torch.ops.onednn.qconv2d_pointwise.binary

    def run(x: Tensor, accumulator: Tensor) -> Tensor:
        if not overwrite:
            accumulator = accumulator.clone(memory_format=CHANNELS_LAST)
        return call(
            x,
            grid.scale,
            grid.zero_point,
            packed,
            scale,
            zeros,
            accumulator,
            bias,
            stride,
            padding,
            dilation,
            groups,
            out.scale,
            out.zero_point,
            torch.uint8,
            residual.scale,
            residual.zero_point,
            "sum",
            1.0,
            name,
            scalars,
            "",
        )

    return run


def _linear(
    op: Op, types: list[ValueType], tensors: Tensors, shape: tuple[int, ...], overwrite: bool
) -> Function:
    grid, layer = grid_of(types[0]), op.layer
    packed = torch.ops.onednn.qlinear_prepack(tensors[f"{layer}.weight"], list(shape))
    scale, bias = tensors[f"{layer}.scale"], tensors[f"{layer}.bias"]
    zeros = torch.zeros(len(scale), dtype=torch.int32)
    out_scale, out_zero, dtype = _output(op.out)
    name, scalars = _POST_OPS[op.args["activation"]]
    call = torch.ops.onednn.qlinear_pointwise.default

    def run(x: Tensor) -> Tensor:
        return call(
            x,
            grid.scale,
            grid.zero_point,
            packed,
            scale,
            zeros,
            bias,
            out_scale,
            out_zero,
            dtype,
            name,
            scalars,
            "",
        )

    return run


def _max_pool2d(
    op: Op, types: list[ValueType], tensors: Tensors, shape: tuple[int, ...], overwrite: bool
) -> Function:
    # The plain max_pool2d indexes uint8 maps with uint8 numbers; this one is made for them.
    call = torch.ops.quantized.max_pool2d.default
    keys = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    settings = tuple(op.args[key] for key in keys)
    return lambda x: call(x, *settings)


def _avg_pool2d(
    op: Op, types: list[ValueType], tensors: Tensors, shape: tuple[int, ...], overwrite: bool
) -> Function:
    """A mean over windows is a depthwise convolution with ones."""
    channels, kernel = shape[1], op.args["kernel_size"]
    weight = torch.ones(channels, 1, *kernel, dtype=torch.int8)
    scale = torch.full((channels,), 1.0 / (kernel[0] * kernel[1]))
    settings = (op.args["stride"], [0, 0], [1, 1], channels)
    post_op = _POST_OPS[None]
    return _convolution(grid_of(types[0]), weight, scale, None, settings, shape, op.out, post_op)


_KERNELS = {
    "conv2d": _conv2d,
    "linear": _linear,
    "max_pool2d": _max_pool2d,
    "avg_pool2d": _avg_pool2d,
}

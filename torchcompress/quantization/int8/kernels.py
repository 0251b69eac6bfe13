"""Native kernels: oneDNN calls on plain uint8 and int8 tensors, on the CPU."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from torchcompress.quantization.int8 import reference
from torchcompress.quantization.int8.convolution import Window, convolution, convolution_sum
from torchcompress.quantization.int8.gate import gate, is_gate
from torchcompress.quantization.int8.layer import Layer, layer_of
from torchcompress.quantization.int8.padding import (
    padded_first,
    padded_shape,
    some_window_misses,
)
from torchcompress.quantization.int8.pooling import max_pool2d
from torchcompress.quantization.int8.product import (
    float_product,
    is_product,
    linear,
    whole_map_convolution,
)
from torchcompress.quantization.int8.reference import grid_of
from torchcompress.quantization.int8.unfused import unfused_convolution
from torchcompress.quantization.operations import CHANNELS_LAST, Function, Tensors, quantizer
from torchcompress.quantization.program import Op, QParams
from torchcompress.quantization.value_types import ValueType

Shape = tuple[int, ...]


def bind(
    op: Op,
    types: Sequence[ValueType],
    tensors: Tensors,
    shapes: Sequence[Shape],
    overwrite: bool = False,
) -> Function:
    """Returns the function of an op, its weights packed for these shapes.

    Args:
        op: The operation.
        types: Of its inputs.
        tensors: By name.
        shapes: Of its inputs.
        overwrite: A fused residual sum may write into its residual.
    """
    if op.kind == "mul" and op.out is not None and is_gate(shapes):
        return gate(op.out)
    if not types or not isinstance(types[0], QParams):
        return _float(op, types, tensors, shapes)
    if op.kind == "conv2d":
        return _conv2d(layer_of(op, types, tensors), Window.of(op.args), shapes[0], overwrite)
    if op.kind == "conv1d" or op.kind == "conv3d":
        return _line_or_volume(op, types, tensors, shapes[0])
    if op.kind == "linear":
        return linear(layer_of(op, types, tensors), shapes[0])
    if op.kind == "max_pool2d":
        return max_pool2d(op.args, shapes[0])
    if op.kind == "global_avg_pool":
        return _global_avg_pool(op, grid_of(types[0]))
    if op.kind == "avg_pool2d":
        return _avg_pool2d(op, grid_of(types[0]), shapes[0])
    return reference.bind(op, types, tensors)


def _float(
    op: Op, types: Sequence[ValueType], tensors: Tensors, shapes: Sequence[Shape]
) -> Function:
    if op.kind != "conv2d" or len(shapes) > 1:
        return reference.bind(op, types, tensors)
    window = Window.of(op.args)
    plain, tensors = reference.with_float_weight(op, tensors)
    weight, bias = tensors[f"{op.layer}.weight"], tensors[f"{op.layer}.bias"]
    if not is_product(window, tuple(weight.shape[2:]), shapes[0]):
        return reference.bind(plain, types, tensors)
    return float_product(weight, bias, op.args["activation"], window, shapes[0])


def _conv2d(layer: Layer, window: Window, shape: Shape, overwrite: bool) -> Function:
    kernel = tuple(layer.weight.shape[2:])
    if some_window_misses(window, kernel, shape):
        bare = replace(window, padding=[0, 0])
        run = _conv2d(layer, bare, padded_shape(window, shape), overwrite)
        return padded_first(run, window, layer.x.zero_point)
    # On one-pixel maps oneDNN's fused sum is several times slower than a product.
    if is_product(window, kernel, shape):
        return whole_map_convolution(layer, window, shape, overwrite)
    if _is_strided_column(window, kernel, shape):
        return _turned(layer, window, shape, overwrite)
    return _plain(layer, window, shape, overwrite)


def _plain(layer: Layer, window: Window, shape: Shape, overwrite: bool) -> Function:
    if layer.residual is not None:
        return convolution_sum(layer, window, shape, overwrite)
    return convolution(layer, window, shape)


def _line_or_volume(op: Op, types: Sequence[ValueType], tensors: Tensors, shape: Shape) -> Function:
    layer, window = layer_of(op, types, tensors), Window.of(op.args)
    kernel = tuple(layer.weight.shape[2:])
    missed = some_window_misses(window, kernel, shape)
    if missed or _is_strided_column(window, kernel, shape) or _is_thin(window, layer, shape):
        return reference.bind(op, types, tensors)
    return unfused_convolution(layer, window, shape)


def _is_thin(window: Window, layer: Layer, shape: Shape) -> bool:
    """Returns whether a volume is padded to its window's depth, in channels that are no fours.

    oneDNN computes that wrongly (3.12).
    """
    _, channels, taps, *_ = layer.weight.shape
    padded = window.padding[0] > 0 and shape[2] < window.dilation[0] * (taps - 1) + 1
    return padded and channels % 4 > 0


def _is_strided_column(window: Window, kernel: Shape, shape: Shape) -> bool:
    """Returns whether the output is one column wide, made in steps of more than one.

    oneDNN computes all but the first row of such a column wrongly (3.12, AMX, many channels).
    """
    extent = window.dilation[-1] * (kernel[-1] - 1) + 1
    room = shape[-1] + 2 * window.padding[-1] - extent
    return max(window.stride) > 1 and room < window.stride[-1]


def _turned(layer: Layer, window: Window, shape: Shape, overwrite: bool) -> Function:
    """Returns a convolution that computes a column as a row."""
    row = replace(layer, weight=layer.weight.transpose(2, 3).contiguous())
    sides = (window.stride[::-1], window.padding[::-1], window.dilation[::-1])
    batch, channels, height, width = shape
    turned = (batch, channels, width, height)
    run = _plain(row, Window(*sides, window.groups), turned, overwrite)

    def turn(x: Tensor) -> Tensor:
        return x.transpose(2, 3).contiguous(memory_format=CHANNELS_LAST)

    return lambda *maps: turn(run(*map(turn, maps)))


def _global_avg_pool(op: Op, grid: QParams) -> Function:
    keepdim, zero, scale = op.args["keepdim"], grid.zero_point, grid.scale

    def mean(x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=keepdim, dtype=torch.float32)

    if op.out is None:
        return lambda x: mean(x).sub_(zero).mul_(scale)
    # Both grids at once: the mean of the integers is rounded straight to the output's grid.
    to_grid = quantizer(op.out.scale / scale, op.out.zero_point)
    return lambda x: to_grid(mean(x).sub_(zero))


def _avg_pool2d(op: Op, grid: QParams, shape: Shape) -> Function:
    """A mean over whole windows is a depthwise convolution with ones."""
    channels, (height, width) = shape[1], op.args["kernel_size"]
    ones = torch.ones(channels, 1, height, width, dtype=torch.int8)
    scale = torch.full((channels,), 1.0 / (height * width), dtype=torch.float32)
    window = Window(op.args["stride"], op.args["padding"], [1, 1], channels)
    return convolution(Layer(ones, scale, None, grid, op.out), window, shape)

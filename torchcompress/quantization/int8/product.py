"""Native matrix products: linear layers, and convolutions whose window is the whole map."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from torchcompress.quantization.int8.convolution import Window
from torchcompress.quantization.int8.layer import Layer
from torchcompress.quantization.operations import Function, activate


def linear(layer: Layer, shape: tuple[int, ...]) -> Function:
    """Returns a linear layer with its activation, packed for one input shape.

    Args:
        layer: Its constants; the weight is `[out, in]`.
        shape: Of the input.
    """
    return layer.bind(_pack(layer, shape), (), torch.ops.onednn.qlinear_pointwise)


def _linear_sum(layer: Layer, shape: tuple[int, ...], overwrite: bool) -> Function:
    call = layer.bind_sum(_pack(layer, shape), (), torch.ops.onednn.qlinear_pointwise)
    return call if overwrite else lambda x, residual: call(x, residual.clone())


def _pack(layer: Layer, shape: tuple[int, ...]) -> Tensor:
    return torch.ops.onednn.qlinear_prepack(layer.weight, list(shape))


def is_product(window: Window, kernel: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Returns whether a convolution makes one pixel out of the whole map.

    Args:
        window: Its geometry.
        kernel: Height and width of the weight.
        shape: Of the input, `[batch, channels, height, width]`.
    """
    if window.groups != 1 or window.dilation != [1, 1]:
        return False
    axes = zip(shape[2:], kernel, window.padding, window.stride, strict=True)
    return all(p + size <= k and (size + 2 * p - k) // s == 0 for size, k, p, s in axes)


def whole_map_convolution(
    layer: Layer, window: Window, shape: tuple[int, ...], overwrite: bool
) -> Function:
    """Returns a convolution for which `is_product` holds, as a matrix product.

    The taps that only ever meet padding are dropped: a 3x3 window on one pixel is its centre.

    Args:
        layer: Its constants.
        window: Its geometry.
        shape: Of the input.
        overwrite: The result may take the residual's memory.
    """
    flat = _flat_taps(layer.weight, window, shape)
    product = replace(layer, weight=flat)
    inner, outer = (shape[0], flat.shape[1]), (shape[0], len(flat), 1, 1)
    if layer.residual is None:
        run = linear(product, inner)
        return lambda x: run(x.permute(0, 2, 3, 1).reshape(inner)).view(outer)
    add = _linear_sum(product, inner, overwrite)
    return lambda x, r: add(x.permute(0, 2, 3, 1).reshape(inner), r.flatten(1)).view(outer)


def float_product(
    weight: Tensor, bias: Tensor, activation: str | None, window: Window, shape: tuple[int, ...]
) -> Function:
    """Returns a float32 convolution for which `is_product` holds, as a matrix product.

    Args:
        weight: `[out, in, height, width]`.
        bias: `[out]`.
        activation: Applied last.
        window: Its geometry.
        shape: Of the input.
    """
    flat = _flat_taps(weight, window, shape)
    inner, outer = (shape[0], flat.shape[1]), (shape[0], len(flat), 1, 1)

    def run(x: Tensor) -> Tensor:
        y = F.linear(x.permute(0, 2, 3, 1).reshape(inner), flat, bias)
        return activate(y, activation).view(outer)

    return run


def _flat_taps(weight: Tensor, window: Window, shape: tuple[int, ...]) -> Tensor:
    """Returns the taps that ever meet the map, a row for each output channel."""
    (top, left), (height, width) = window.padding, shape[2:]
    taps = weight[:, :, top : top + height, left : left + width]
    return taps.permute(0, 2, 3, 1).reshape(len(taps), -1).contiguous()

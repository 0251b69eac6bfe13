"""Native matrix products: linear layers, and convolutions whose window is the whole map."""

from dataclasses import replace

import torch
from torch import Tensor

from torchcompress.quantization.int8.convolution import Window
from torchcompress.quantization.int8.layer import Layer
from torchcompress.quantization.operations import Function


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
    batch, channels, height, width = shape
    top, left = window.padding
    taps = layer.weight[:, :, top : top + height, left : left + width]
    flat = taps.permute(0, 2, 3, 1).reshape(len(taps), -1).contiguous()
    product = replace(layer, weight=flat)
    inner, outer = (batch, height * width * channels), (batch, len(flat), 1, 1)
    if layer.residual is None:
        run = linear(product, inner)
        return lambda x: run(x.permute(0, 2, 3, 1).reshape(inner)).view(outer)
    add = _linear_sum(product, inner, overwrite)
    return lambda x, r: add(x.permute(0, 2, 3, 1).reshape(inner), r.flatten(1)).view(outer)

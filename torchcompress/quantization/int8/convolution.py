"""Native convolution, alone and with a fused residual sum."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torchcompress.quantization.int8.layer import Layer
from torchcompress.quantization.operations import CHANNELS_LAST, Function


@dataclass(frozen=True)
class Window:
    """How a convolution's window moves: pairs for height and width, and the groups."""

    stride: list[int]
    padding: list[int]
    dilation: list[int]
    groups: int

    @classmethod
    def of(cls, args: Mapping[str, Any]) -> "Window":
        """Reads an op's args."""
        return cls(args["stride"], args["padding"], args["dilation"], args["groups"])


def _pack(layer: Layer, window: Window, shape: tuple[int, ...]) -> Tensor:
    # Without the shape some widths are packed for kernels that are several times slower.
    return torch.ops.onednn.qconv_prepack(
        layer.weight,
        layer.scale,
        layer.x.scale,
        layer.x.zero_point,
        window.stride,
        window.padding,
        window.dilation,
        window.groups,
        list(shape),
    )


def convolution(layer: Layer, window: Window, shape: tuple[int, ...]) -> Function:
    """Returns a convolution with its activation, packed for one input shape.

    Args:
        layer: Its constants.
        window: Its geometry.
        shape: Of the input.
    """
    packed, zeros, bias, scale = (
        _pack(layer, window, shape),
        layer.weight_zeros,
        layer.bias,
        layer.scale,
    )
    x_scale, x_zero = layer.x.scale, layer.x.zero_point
    stride, padding, dilation, groups = (
        window.stride,
        window.padding,
        window.dilation,
        window.groups,
    )
    out_scale, out_zero, dtype = layer.output
    name, scalars = layer.post_op
    call = torch.ops.onednn.qconv_pointwise.default
    return lambda x: call(
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


def convolution_sum(
    layer: Layer, window: Window, shape: tuple[int, ...], overwrite: bool
) -> Function:
    """Returns a convolution that adds a residual before its activation.

    Args:
        layer: Its constants.
        window: Its geometry.
        shape: Of the input.
        overwrite: The result may take the residual's memory, which is dense channels_last.
    """
    packed, zeros, bias, scale = (
        _pack(layer, window, shape),
        layer.weight_zeros,
        layer.bias,
        layer.scale,
    )
    x_scale, x_zero = layer.x.scale, layer.x.zero_point
    stride, padding, dilation, groups = (
        window.stride,
        window.padding,
        window.dilation,
        window.groups,
    )
    out_scale, out_zero, dtype = layer.output
    assert layer.residual is not None
    residual_scale, residual_zero = layer.residual.scale, layer.residual.zero_point
    name, scalars = layer.post_op
    call = torch.ops.onednn.qconv2d_pointwise.binary

    def run(x: Tensor, accumulator: Tensor) -> Tensor:
        if not overwrite:
            accumulator = accumulator.clone(memory_format=CHANNELS_LAST)
        return call(
            x,
            x_scale,
            x_zero,
            packed,
            scale,
            zeros,
            accumulator,
            bias,
            stride,
            padding,
            dilation,
            groups,
            out_scale,
            out_zero,
            dtype,
            residual_scale,
            residual_zero,
            "sum",
            1.0,
            name,
            scalars,
            "",
        )

    return run

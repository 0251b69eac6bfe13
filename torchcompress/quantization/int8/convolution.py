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
    """How a convolution's window moves: a number for each axis, and the groups."""

    stride: list[int]
    padding: list[int]
    dilation: list[int]
    groups: int

    @classmethod
    def of(cls, args: Mapping[str, Any]) -> "Window":
        """Reads an op's args."""
        return cls(args["stride"], args["padding"], args["dilation"], args["groups"])

    @property
    def geometry(self) -> tuple[Any, ...]:
        """The fields in the order in which kernels take them."""
        return self.stride, self.padding, self.dilation, self.groups


def _pack(layer: Layer, window: Window, shape: tuple[int, ...]) -> Tensor:
    # Without the shape some widths are packed for kernels that are several times slower.
    return torch.ops.onednn.qconv_prepack(
        layer.weight,
        layer.scale,
        layer.x.scale,
        layer.x.zero_point,
        *window.geometry,
        list(shape),
    )


def convolution(layer: Layer, window: Window, shape: tuple[int, ...]) -> Function:
    """Returns a convolution with its activation, packed for one input shape.

    Args:
        layer: Its constants.
        window: Its geometry.
        shape: Of the input.
    """
    packed = _pack(layer, window, shape)
    return layer.bind(packed, window.geometry, torch.ops.onednn.qconv_pointwise)


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
    packed = _pack(layer, window, shape)
    call = layer.bind_sum(packed, window.geometry, torch.ops.onednn.qconv2d_pointwise)
    if overwrite:
        return call
    return lambda x, residual: call(x, residual.clone(memory_format=CHANNELS_LAST))

"""Native pooling of uint8 maps."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from torchcompress.quantization.operations import Function

_LANES = 32
"""uint8 values that the kernel compares at once; it takes left-over channels one by one."""


def max_pool2d(args: Mapping[str, Any], shape: tuple[int, ...]) -> Function:
    """Returns a max pooling of channels_last maps.

    Args:
        args: Of the op.
        shape: Of the input, `[batch, channels, height, width]`.
    """
    if 4 * (shape[1] % _LANES) > shape[1]:
        return _by_axis(args)
    keys = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    settings = [args[key] for key in keys]
    return lambda x: _pool(x, *settings)


def _pool(x: Tensor, *settings: Any) -> Tensor:
    # The plain max_pool2d indexes uint8 maps with uint8 numbers; this one is made for them.
    return torch.ops.quantized.max_pool2d.default(x, *settings)


def _by_axis(args: Mapping[str, Any]) -> Function:
    """Returns a max pooling over rows, whole rows at a time, and then over columns."""
    sides = zip(args["kernel_size"], args["stride"], args["padding"], args["dilation"], strict=True)
    (down, across), ceil_mode = sides, args["ceil_mode"]
    rows = ([down[0], 1], [down[1], 1], [down[2], 0], [down[3], 1], ceil_mode)
    taps, stride, padding, dilation = across

    def run(x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        # A row's columns side by side are many channels of one column.
        column = x.permute(0, 2, 3, 1).reshape(batch, height, width * channels, 1)
        tall = _pool(column.transpose(1, 2), *rows).transpose(1, 2)
        tall = tall.reshape(batch, -1, width, channels)
        made = _pooled_size(width, *across, ceil_mode)
        end = (made - 1) * stride + dilation * (taps - 1) + 1
        # 0 is below or equal to every value, so it pads without being seen.
        tall = F.pad(tall, (0, 0, padding, max(end - width - padding, 0)))
        first = [tap * dilation for tap in range(taps)]
        last = (made - 1) * stride + 1
        columns = [tall[:, :, start : start + last : stride] for start in first]
        wide = columns[0].contiguous() if taps == 1 else torch.maximum(columns[0], columns[1])
        for more in columns[2:]:
            torch.maximum(wide, more, out=wide)
        return wide.permute(0, 3, 1, 2)

    return run


def _pooled_size(
    size: int, taps: int, stride: int, padding: int, dilation: int, ceil_mode: bool
) -> int:
    room = size + 2 * padding - dilation * (taps - 1) - 1
    made = (-(-room // stride) if ceil_mode else room // stride) + 1
    # The last window must begin inside the input or its left padding.
    return made - 1 if ceil_mode and (made - 1) * stride >= size + padding else made

"""Weights to int8: per output channel, symmetric."""

import torch
from torch import Tensor

_INT32_MAX = 2**31 - 1
_SMALLEST = torch.finfo(torch.float32).tiny


def quantize_weight(
    weight: Tensor, bias: Tensor, input_scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Rounds a weight to int8, one scale for each output channel.

    The integers lie in [-127, 127]. A channel of zeros gets scale 1. A scale grows only where
    `bias / (input_scale * scale)` would not fit an int32 accumulator.

    Args:
        weight: Output channels first, float64.
        bias: `[channels]`, float64.
        input_scale: The smallest scale of the inputs that this weight meets.

    Returns:
        int8 weight, float32 scale `[channels]`, float32 bias `[channels]`.
    """
    rows = weight.flatten(1)
    # What an accumulator may hold besides the bias: 255 * 127 for each product.
    room = _INT32_MAX - 255 * 127 * rows.shape[1]
    largest = rows.abs().amax(1)
    scale = torch.where(largest / 127 < _SMALLEST, 1.0, largest / 127)
    scale = torch.maximum(scale, bias.abs() / (input_scale * max(room, 1))).float()
    rounded = (rows / scale.double().unsqueeze(1)).round().clamp(-127, 127)
    return rounded.to(torch.int8).view(weight.shape), scale, bias.float()

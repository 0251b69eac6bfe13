"""Weights to int8: per output channel, symmetric."""

import torch
from torch import Tensor

from torchcompress.core.errors import UnsupportedError

_INT32_MAX = 2**31 - 1
_MOST_PRODUCTS = 2**22
_SMALLEST = torch.finfo(torch.float32).tiny


def quantize_weight(
    weight: Tensor, bias: Tensor, input_scale: float, steps: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Rounds a weight to int8, one scale for each output channel.

    The integers lie in [-127, 127]. A channel of zeros gets scale 1. A scale grows only where the
    channel's own products and bias, `255 * sum(|q|) + |bias| / (input_scale * scale)`, would not
    fit an int32 accumulator.

    Args:
        weight: Output channels first, float64.
        bias: `[channels]`, float64.
        input_scale: The smallest scale of the inputs that this weight meets.
        steps: Factor of each channel's scale; below 1 the largest weights saturate.

    Returns:
        int8 weight, float32 scale `[channels]`, float32 bias `[channels]`.

    Raises:
        UnsupportedError: More products for each output than an accumulator can hold.
    """
    products, inner = weight[0].numel(), tuple(range(1, weight.dim()))
    if products > _MOST_PRODUCTS:
        raise UnsupportedError(
            f"{products} products for each output do not fit an int32 accumulator",
            where="weight",
            hint="leave the layer float: config.exclude",
        )
    # Rounding adds at most 255 / 2 for each product, and as much again for the float32 scale.
    room = _INT32_MAX - 128 * (products + 1)
    sizes = weight.abs()
    largest = sizes.amax(inner) * (1 if steps is None else steps)
    scale = torch.where(largest / 127 < _SMALLEST, 1.0, largest / 127)
    needed = 255 * sizes.sum(inner) + bias.abs() / input_scale
    scale = torch.maximum(scale, needed / room).float()
    rounded = torch.div(weight, scale.double().view(-1, *[1] * len(inner)), out=sizes)
    return rounded.round_().clamp_(-127, 127).to(torch.int8), scale, bias.float()


def rows_fit(integers: Tensor, scale: Tensor, bias: Tensor, input_scale: float) -> Tensor:
    """Returns for each output channel whether its products and bias fit an int32 accumulator.

    Args:
        integers: int8 `[channels, products]`.
        scale: `[channels]`.
        bias: `[channels]`.
        input_scale: The smallest scale of the inputs.
    """
    products = 255 * integers.double().abs().sum(1)
    return products + bias.double().abs() / (input_scale * scale.double()) <= _INT32_MAX

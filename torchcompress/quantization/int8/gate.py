"""The product of a map and one factor for each channel, straight to uint8: squeeze and excite."""

from collections.abc import Sequence

import torch
from torch import Tensor

from torchcompress.quantization.operations import CHANNELS_LAST, Function, grid_offset, to_bytes
from torchcompress.quantization.program import QParams

_LARGE = 2**19
"""Elements: a larger batch is multiplied image by image, so that each stays in a core's cache."""


def is_gate(shapes: Sequence[tuple[int, ...]]) -> bool:
    """Returns whether one of two factors is a map and the other a number for each channel."""
    one = [shape[2:] == (1, 1) for shape in shapes]
    return all(len(shape) == 4 for shape in shapes) and any(one) and shapes[0][:2] == shapes[1][:2]


def gate(out: QParams) -> Function:
    """Returns the product of two float32 factors for which `is_gate` holds.

    Args:
        out: Grid of the result.
    """
    offset, inverse = grid_offset(out.zero_point), 1.0 / out.scale

    def run(x: Tensor, factor: Tensor) -> Tensor:
        if x.numel() < factor.numel():
            x, factor = factor, x
        factor = factor * inverse
        x = x.contiguous(memory_format=CHANNELS_LAST)
        if x.numel() < _LARGE or len(x) == 1:
            return to_bytes(torch.addcmul(offset, x, factor)).to(torch.uint8)
        made = torch.empty_like(x, dtype=torch.uint8)
        for image, scale, target in zip(x, factor, made, strict=True):
            target.copy_(to_bytes(torch.addcmul(offset, image, scale)))
        return made

    return run

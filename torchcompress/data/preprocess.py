"""From stored pixels to what a network takes."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Preprocess:
    """Normalises, resizes and gives three channels, in this order.

    Args:
        mean: Per channel, on the scale 0 to 1.
        std: Per channel, on the scale 0 to 1.
        size: Height and width of the result, in pixels.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int

    def __call__(self, images: Tensor) -> Tensor:
        """Returns float32 images (N, 3, size, size) of uint8 images (N, 1 or 3, H, W)."""
        mean = torch.tensor(self.mean)[:, None, None]
        std = torch.tensor(self.std)[:, None, None]
        values = (images.float() / 255 - mean) / std
        size = (self.size, self.size)
        if values.shape[2:] != size:
            values = F.interpolate(values, size=size, mode="bilinear")
        return three_channels(values)


def three_channels(images: Tensor) -> Tensor:
    """Returns grey images (N, 1, H, W) as (N, 3, H, W); images of three channels as they are."""
    return images.repeat(1, 3, 1, 1) if images.shape[1] == 1 else images

"""Random changes to a whole batch of images at once, drawn from a given generator."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor


def flip(images: Tensor, generator: Generator) -> Tensor:
    """Mirrors half of the images, left to right.

    Args:
        images: A batch (N, C, H, W) of any dtype.
        generator: Where the coin flips come from.
    """
    mirrored = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)


def crop(images: Tensor, generator: Generator) -> Tensor:
    """Shifts each image by up to an eighth of its height and width; black comes in.

    This is the usual crop after zero padding: 4 pixels at 32x32.

    Args:
        images: A batch (N, C, H, W) of any dtype.
        generator: Where the offsets come from.
    """
    count, _, height, width = images.shape
    pad_y, pad_x = height // 8, width // 8
    padded = F.pad(images, (pad_x, pad_x, pad_y, pad_y))
    top = torch.randint(2 * pad_y + 1, (count, 1, 1), generator=generator)
    left = torch.randint(2 * pad_x + 1, (count, 1, 1), generator=generator)
    rows = top + torch.arange(height)[:, None]
    columns = left + torch.arange(width)
    which = torch.arange(count)[:, None, None]
    return padded[which, :, rows, columns].permute(0, 3, 1, 2)


AUGMENTATIONS: dict[str, Callable[[Tensor, Generator], Tensor]] = {"flip": flip, "crop": crop}
"""The augmentations by the names that `open_data` takes."""

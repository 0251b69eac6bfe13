import torch
import torch.nn.functional as F
from torch import Generator

from torchcompress.data.augment import crop, flip


def _images(count: int = 64) -> torch.Tensor:
    return torch.randint(1, 256, (count, 2, 16, 24), dtype=torch.uint8)


def test_flip_mirrors_about_half_and_leaves_the_others() -> None:
    images = _images(400)
    out = flip(images, Generator().manual_seed(0))
    mirrored = (out == images.flip(3)).flatten(1).all(1)
    same = (out == images).flatten(1).all(1)
    assert bool((mirrored ^ same).all())
    assert 160 < int(mirrored.sum()) < 240


def test_crop_equals_slicing_the_padded_image_at_some_offset() -> None:
    images = _images()
    out = crop(images, Generator().manual_seed(0))
    padded = F.pad(images, (3, 3, 2, 2))
    offsets = set()
    for one, original in zip(out, padded, strict=True):
        found = [
            (y, x)
            for y in range(5)
            for x in range(7)
            if torch.equal(one, original[:, y : y + 16, x : x + 24])
        ]
        assert len(found) == 1
        offsets.update(found)
    assert len(offsets) > 20


def test_the_generator_alone_decides() -> None:
    images = _images()
    torch.manual_seed(1)
    first = crop(flip(images, Generator().manual_seed(5)), Generator().manual_seed(6))
    torch.manual_seed(2)
    again = crop(flip(images, Generator().manual_seed(5)), Generator().manual_seed(6))
    assert torch.equal(first, again)

"""Image files in folders, one folder a class: `root/train/NAME/*`, `root/val/NAME/*`."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from torchcompress.core.errors import CompressError
from torchcompress.data.seeding import epoch_generator

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


def open_folder(root: Path | None, split: str) -> ImageFolder:
    """Returns the images of one split, not yet decoded.

    Args:
        root: The folder that holds `train` and `val`.
        split: `train` or `val`.

    Raises:
        CompressError: The folder is missing or holds no images.
    """
    hint = "put images at root/train/CLASS/ and root/val/CLASS/"
    if root is None:
        raise CompressError("this data set needs a folder", where="root", hint=hint)
    folder = root / split
    if not folder.is_dir():
        raise CompressError("this folder is missing", where=str(folder), hint=hint)
    try:
        return ImageFolder(folder)
    except FileNotFoundError as error:
        raise CompressError(str(error), where=str(folder), hint=hint) from error


def eval_transform(size: int) -> Callable[[Any], Tensor]:
    """Returns the usual preprocessing of ImageNet: resize by 8/7, crop the center, normalise.

    Args:
        size: Height and width of the result, in pixels.
    """
    return v2.Compose([v2.Resize(round(size * 8 / 7)), v2.CenterCrop(size), *_to_network()])


def train_transform(
    size: int, augment: Sequence[str], transform: Callable[[Any], Tensor] | None
) -> Callable[[Any], Tensor]:
    """Returns what a training image goes through.

    Args:
        size: Height and width of the result, in pixels.
        augment: `flip` mirrors half of the images; `crop` cuts a random part out and resizes it.
        transform: The preset of the weights, applied last in place of the usual preprocessing.
    """
    steps: list[Callable[[Any], Any]] = []
    if "flip" in augment:
        steps.append(v2.RandomHorizontalFlip())
    if "crop" in augment:
        steps.append(v2.RandomResizedCrop(size))
    if transform is not None:
        return v2.Compose([*steps, transform])
    if "crop" in augment:
        return v2.Compose([*steps, *_to_network()])
    return v2.Compose([*steps, eval_transform(size)])


def _to_network() -> list[Callable[[Any], Any]]:
    return [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(_MEAN, _STD)]


class FolderLoader:
    """Yields `(inputs, labels)`: float32 (N, 3, H, W) and int64 (N,).

    Order and augmentation depend on `seed` and the epoch alone, whatever the number of workers.
    Each pass is the next epoch unless `set_epoch` names one.

    Args:
        folder: The images.
        indices: Which of them, in this order.
        transform: From an image to a tensor; its randomness is torch's.
        batch_size: Images a batch; the last batch may be smaller.
        shuffle: Whether each epoch has its own order.
        workers: Processes that decode; 0 decodes in this one.
        seed: Where all randomness comes from.
    """

    def __init__(
        self,
        folder: ImageFolder,
        indices: Sequence[int],
        transform: Callable[[Any], Tensor],
        batch_size: int,
        *,
        shuffle: bool = False,
        workers: int = 0,
        seed: int = 0,
    ) -> None:
        self.folder = folder
        self.indices = list(indices)
        self.transform = transform
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.workers = workers
        self.seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Makes the next pass the given epoch, counted from 0."""
        self._epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.indices) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        generator = epoch_generator(self.seed, self._epoch)
        self._epoch += 1
        indices = self.indices
        if self.shuffle:
            order = torch.randperm(len(indices), generator=generator)
            indices = [indices[i] for i in order.tolist()]
        seeds = torch.randint(1 << 62, (len(indices),), generator=generator).tolist()
        samples = _Samples(self.folder, indices, seeds, self.transform)
        yield from DataLoader(
            samples, self.batch_size, num_workers=self.workers, generator=generator
        )


class _Samples(Dataset[tuple[Tensor, int]]):
    """Decoded images; each is transformed under a seed of its own."""

    def __init__(
        self,
        folder: ImageFolder,
        indices: Sequence[int],
        seeds: Sequence[int],
        transform: Callable[[Any], Tensor],
    ) -> None:
        self.folder = folder
        self.indices = indices
        self.seeds = seeds
        self.transform = transform

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        image, label = self.folder[self.indices[position]]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seeds[position])
            return self.transform(image), label

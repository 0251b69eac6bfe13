"""Data sets by name: loaders for training, validation and calibration."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from torchcompress.core.errors import CompressError, did_you_mean
from torchcompress.data.augment import AUGMENTATIONS
from torchcompress.data.image_folder import (
    FolderLoader,
    eval_transform,
    open_folder,
    train_transform,
)
from torchcompress.data.memory import MemoryLoader, epoch_generator
from torchcompress.data.preprocess import Preprocess, three_channels
from torchcompress.data.sources import IN_MEMORY, Images

DATASETS: tuple[str, ...] = (*IN_MEMORY, "imagefolder")
"""The names that `open_data` knows."""

_CALIBRATION_STREAM = (1 << 20) - 1


class Loader(Protocol):
    """Batches `(inputs, labels)`, as many as its length says."""

    def set_epoch(self, epoch: int) -> None:
        """Makes the next pass the given epoch, counted from 0."""
        ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]: ...


@dataclass(frozen=True)
class Data:
    """A data set, opened.

    Args:
        train: Shuffled and augmented batches.
        val: Batches of the test or validation split, in order.
        calibration: Batches drawn from the training split, not augmented.
        class_names: One for each label, in order.
        input_shape: (C, H, W) of one input.
    """

    train: Loader
    val: Loader
    calibration: Loader
    class_names: tuple[str, ...]
    input_shape: tuple[int, int, int]

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)

    def example(self, batch: int = 1) -> Tensor:
        """Returns the first calibration inputs, float32 (batch, C, H, W).

        Args:
            batch: How many.

        Raises:
            CompressError: More than there are.
        """
        inputs: list[Tensor] = []
        for images, _ in self.calibration:
            inputs.append(images)
            if sum(map(len, inputs)) >= batch:
                return torch.cat(inputs)[:batch]
        raise CompressError(
            f"{batch} inputs asked, {sum(map(len, inputs))} in the calibration data",
            where="batch",
            hint="open the data with a larger calibration",
        )


def open_data(
    dataset: str,
    root: str | Path | None = None,
    *,
    image_size: int,
    batch_size: int = 128,
    calibration: int = 512,
    augment: Sequence[str] = ("flip",),
    workers: int = 0,
    seed: int = 0,
    transform: Callable[[Any], Tensor] | None = None,
) -> Data:
    """Opens a data set by name.

    Small sets are held in memory and prepared a batch at a time: scaled to 0 to 1, normalised,
    resized (bilinear, no antialias), grey repeated to three channels.

    Args:
        dataset: One of `DATASETS`.
        root: Where the files are; `fashion-mnist-mini` needs none.
        image_size: Height and width of an input, in pixels.
        batch_size: Images a batch; the last batch may be smaller.
        calibration: How many training images are drawn for calibration.
        augment: What training images go through: `flip`, `crop`, both or none.
        workers: Processes that decode image files; sets in memory need none.
        seed: Decides order, augmentation and the calibration images.
        transform: Replaces the preprocessing, such as `weights.transforms()`. For a set in memory
            it is called on a batch of uint8 images (N, 3, H, W).

    Raises:
        CompressError: An unknown name, a number out of range, missing or damaged files, or a
            transform whose result is not `image_size` wide and high.
    """
    if dataset not in DATASETS:
        raise CompressError(
            f"{dataset!r} is not a data set", where="dataset", hint=did_you_mean(dataset, DATASETS)
        )
    for name, value, least in (
        ("image_size", image_size, 1),
        ("batch_size", batch_size, 1),
        ("calibration", calibration, 1),
        ("workers", workers, 0),
        ("seed", seed, 0),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise CompressError(f"{value!r} is not a whole number from {least}", where=name)
    for name in augment:
        if name not in AUGMENTATIONS:
            raise CompressError(
                f"{name!r} is not an augmentation",
                where="augment",
                hint=did_you_mean(name, AUGMENTATIONS),
            )
    folder = Path(root).expanduser() if root is not None else None
    if dataset == "imagefolder":
        loaders = _from_files(
            folder, image_size, batch_size, calibration, augment, workers, seed, transform
        )
    else:
        loaders = _in_memory(
            dataset, folder, image_size, batch_size, calibration, augment, seed, transform
        )
    train, val, drawn, class_names = loaders
    data = Data(train, val, drawn, class_names, (3, image_size, image_size))
    made = tuple(data.example().shape[1:])
    if made != data.input_shape:
        raise CompressError(
            f"the transform gives inputs of {made}, not {data.input_shape}",
            where="image_size",
            hint="let image_size be what the transform makes",
        )
    return data


_Opened = tuple[Loader, Loader, Loader, tuple[str, ...]]


def _in_memory(
    dataset: str,
    root: Path | None,
    image_size: int,
    batch_size: int,
    calibration: int,
    augment: Sequence[str],
    seed: int,
    transform: Callable[[Tensor], Tensor] | None,
) -> _Opened:
    source = IN_MEMORY[dataset](root)
    if transform is None:
        preprocess: Callable[[Tensor], Tensor] = Preprocess(source.mean, source.std, image_size)
    else:
        preprocess = _on_three_channels(transform)
    chosen = _draw(len(source.train), calibration, seed)
    drawn = Images(source.train.images[chosen], source.train.labels[chosen])
    return (
        MemoryLoader(
            source.train, preprocess, batch_size, augment=augment, shuffle=True, seed=seed
        ),
        MemoryLoader(source.test, preprocess, batch_size),
        MemoryLoader(drawn, preprocess, batch_size),
        source.class_names,
    )


def _from_files(
    root: Path | None,
    image_size: int,
    batch_size: int,
    calibration: int,
    augment: Sequence[str],
    workers: int,
    seed: int,
    transform: Callable[[Any], Tensor] | None,
) -> _Opened:
    train, val = open_folder(root, "train"), open_folder(root, "val")
    if train.classes != val.classes:
        odd = sorted(set(train.classes) ^ set(val.classes))
        raise CompressError(
            f"train and val do not hold the same classes: {', '.join(odd[:5])}",
            where=str(root),
            hint="give both the same folder names",
        )
    plain = transform or eval_transform(image_size)
    augmented = train_transform(image_size, augment, transform)
    chosen = _draw(len(train), calibration, seed).tolist()
    return (
        FolderLoader(
            train,
            range(len(train)),
            augmented,
            batch_size,
            shuffle=True,
            workers=workers,
            seed=seed,
        ),
        FolderLoader(val, range(len(val)), plain, batch_size, workers=workers),
        FolderLoader(train, chosen, plain, batch_size, workers=workers),
        tuple(train.classes),
    )


def _on_three_channels(transform: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda images: transform(three_channels(images))


def _draw(count: int, wanted: int, seed: int) -> Tensor:
    """Returns which training images serve for calibration."""
    if wanted > count:
        raise CompressError(
            f"{wanted} images asked, {count} in the training split",
            where="calibration",
            hint="a few hundred are enough",
        )
    generator = epoch_generator(seed, _CALIBRATION_STREAM)
    return torch.randperm(count, generator=generator)[:wanted]

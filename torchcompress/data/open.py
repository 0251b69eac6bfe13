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
from torchcompress.data.memory import MemoryLoader
from torchcompress.data.preprocess import Preprocess, three_channels
from torchcompress.data.seeding import epoch_generator
from torchcompress.data.sources import IN_MEMORY, Images, Source

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
    options = _Options(
        image_size, batch_size, calibration, tuple(augment), workers, seed, transform
    )
    folder = Path(root).expanduser() if root is not None else None
    if dataset == "imagefolder":
        data = _from_files(folder, options)
    else:
        data = _in_memory(IN_MEMORY[dataset](folder), options)
    if transform is not None and (made := tuple(data.example().shape[1:])) != data.input_shape:
        raise CompressError(
            f"the transform gives inputs of {made}, not {data.input_shape}",
            where="image_size",
            hint="let image_size be what the transform makes",
        )
    return data


@dataclass(frozen=True)
class _Options:
    """What `open_data` was asked for, checked."""

    image_size: int
    batch_size: int
    calibration: int
    augment: tuple[str, ...]
    workers: int
    seed: int
    transform: Callable[[Any], Tensor] | None

    def __post_init__(self) -> None:
        least = {"image_size": 1, "batch_size": 1, "calibration": 1, "workers": 0, "seed": 0}
        for name, low in least.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise CompressError(f"{value!r} is not a whole number from {low}", where=name)
        for name in self.augment:
            if name not in AUGMENTATIONS:
                raise CompressError(
                    f"{name!r} is not an augmentation",
                    where="augment",
                    hint=did_you_mean(name, AUGMENTATIONS),
                )

    @property
    def input_shape(self) -> tuple[int, int, int]:
        return 3, self.image_size, self.image_size

    def draw(self, count: int) -> Tensor:
        """Returns which of `count` training images serve for calibration."""
        if self.calibration > count:
            raise CompressError(
                f"{self.calibration} images asked, {count} in the training split",
                where="calibration",
                hint="a few hundred are enough",
            )
        generator = epoch_generator(self.seed, _CALIBRATION_STREAM)
        return torch.randperm(count, generator=generator)[: self.calibration]


def _in_memory(source: Source, options: _Options) -> Data:
    preprocess: Callable[[Tensor], Tensor] = (
        Preprocess(source.mean, source.std, options.image_size)
        if options.transform is None
        else _on_three_channels(options.transform)
    )
    chosen = options.draw(len(source.train))
    drawn = Images(source.train.images[chosen], source.train.labels[chosen])
    train = MemoryLoader(
        source.train,
        preprocess,
        options.batch_size,
        augment=options.augment,
        shuffle=True,
        seed=options.seed,
    )
    val = MemoryLoader(source.test, preprocess, options.batch_size)
    calibration = MemoryLoader(drawn, preprocess, options.batch_size)
    return Data(train, val, calibration, source.class_names, options.input_shape)


def _from_files(root: Path | None, options: _Options) -> Data:
    images, val_images = open_folder(root, "train"), open_folder(root, "val")
    if images.classes != val_images.classes:
        odd = sorted(set(images.classes) ^ set(val_images.classes))
        raise CompressError(
            f"train and val do not hold the same classes: {', '.join(odd[:5])}",
            where=str(root),
            hint="give both the same folder names",
        )
    plain = options.transform or eval_transform(options.image_size)
    chosen = options.draw(len(images)).tolist()
    train = FolderLoader(
        images,
        range(len(images)),
        train_transform(options.image_size, options.augment, options.transform),
        options.batch_size,
        shuffle=True,
        workers=options.workers,
        seed=options.seed,
    )
    val, calibration = (
        FolderLoader(folder, indices, plain, options.batch_size, workers=options.workers)
        for folder, indices in ((val_images, range(len(val_images))), (images, chosen))
    )
    return Data(train, val, calibration, tuple(images.classes), options.input_shape)


def _on_three_channels(transform: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda images: transform(three_channels(images))

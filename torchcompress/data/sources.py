"""Small data sets by name, read whole into memory as bytes."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets import CIFAR10, CIFAR100

from torchcompress.core.errors import CompressError
from torchcompress.data.bundled import bundled_file
from torchcompress.data.idx import read_idx

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts its files."""

_IDX = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}
_FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


@dataclass(frozen=True)
class Images:
    """Labelled images in memory.

    Args:
        images: uint8, (N, 1 or 3, H, W).
        labels: int64, (N,).
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Source:
    """A data set in memory, with the statistics of its pixels on the scale 0 to 1."""

    train: Images
    test: Images
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def fashion_mnist_mini(root: Path | None) -> Source:
    """Returns the bundled part of Fashion-MNIST: 10,000 train and 2,000 test images.

    The images were drawn from their own splits with a fixed seed, equally from each class.
    """
    if root is not None:
        raise CompressError(
            "fashion-mnist-mini is bundled and takes no root",
            where="root",
            hint="leave root out, or use the data set fashion-mnist",
        )
    return _fashion({key: bundled_file(f"fashion-mnist-mini-{name}") for key, name in _IDX.items()})


def fashion_mnist(root: Path | None) -> Source:
    """Returns Fashion-MNIST (Xiao et al., 2017): 60,000 train and 10,000 test images.

    Args:
        root: A folder with the four idx files, or one in which torchvision keeps
            `FashionMNIST/raw`. Without it, the folder of Debian's package.
    """
    folders = [root, root / "FashionMNIST" / "raw"] if root else [DEBIAN_FOLDER]
    for folder in folders:
        for suffix in (".gz", ""):
            paths = {key: folder / (name + suffix) for key, name in _IDX.items()}
            if all(path.is_file() for path in paths.values()):
                return _fashion(paths)
    raise CompressError(
        "the four idx files of Fashion-MNIST are not here",
        where=str(folders[0]),
        hint="put train-images-idx3-ubyte.gz and its three companions there, install Debian's "
        "dataset-fashion-mnist, or use the bundled data set fashion-mnist-mini",
    )


def cifar10(root: Path | None) -> Source:
    """Returns CIFAR-10 (Krizhevsky, 2009): 50,000 train and 10,000 test images.

    Args:
        root: The folder that holds `cifar-10-batches-py`.
    """
    return _cifar(CIFAR10, root, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))


def cifar100(root: Path | None) -> Source:
    """Returns CIFAR-100 (Krizhevsky, 2009): 50,000 train and 10,000 test images.

    Args:
        root: The folder that holds `cifar-100-python`.
    """
    return _cifar(CIFAR100, root, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))


IN_MEMORY: dict[str, Callable[[Path | None], Source]] = {
    "fashion-mnist-mini": fashion_mnist_mini,
    "fashion-mnist": fashion_mnist,
    "cifar10": cifar10,
    "cifar100": cifar100,
}
"""The readers of small data sets by name."""


def _fashion(paths: dict[str, Path]) -> Source:
    read = {key: read_idx(path) for key, path in paths.items()}
    for split in ("train", "test"):
        images, labels = read[f"{split}_images"], read[f"{split}_labels"]
        if images.shape[1:] != (28, 28) or labels.shape != images.shape[:1]:
            raise CompressError(
                f"images {tuple(images.shape)} and labels {tuple(labels.shape)} do not belong "
                "together",
                where=str(paths[f"{split}_images"]),
                hint="fetch the four files of Fashion-MNIST again",
            )
    return Source(
        train=Images(read["train_images"][:, None], read["train_labels"].long()),
        test=Images(read["test_images"][:, None], read["test_labels"].long()),
        class_names=_FASHION_CLASSES,
        mean=(0.286,),
        std=(0.353,),
    )


def _cifar(
    kind: type[CIFAR10], root: Path | None, mean: tuple[float, ...], std: tuple[float, ...]
) -> Source:
    if root is None:
        raise CompressError(
            "this data set needs a folder",
            where="root",
            hint=f"name the one with {kind.base_folder}",
        )
    if not (root / kind.base_folder).is_dir():
        raise CompressError(
            f"{kind.base_folder} is not here",
            where=str(root),
            hint=f"unpack {kind.filename} there, or call torchvision.datasets.{kind.__name__}"
            "(root, download=True) once",
        )
    try:
        train, test = kind(root, train=True), kind(root, train=False)
    except RuntimeError as error:
        raise CompressError(
            "some files are missing or damaged",
            where=str(root / kind.base_folder),
            hint=f"unpack {kind.filename} again",
        ) from error
    return Source(_images(train), _images(test), tuple(train.classes), mean, std)


def _images(dataset: Any) -> Images:
    pixels = torch.from_numpy(np.ascontiguousarray(dataset.data.transpose(0, 3, 1, 2)))
    return Images(pixels, torch.tensor(dataset.targets))

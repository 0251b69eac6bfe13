"""Draws the bundled part of Fashion-MNIST from the full data set.

10,000 train images come from the train split and 2,000 test images from the test split, equally
many of each class, in the order of the original. Run with the package installed:

    python benchmarks/make_fashion_mnist_mini.py [FOLDER_OF_THE_FOUR_IDX_FILES]
"""

import sys
from pathlib import Path

import torch
from torch import Tensor

from torchcompress.data.idx import read_idx, write_idx
from torchcompress.data.sources import DEBIAN_FOLDER

SEED = 0
PER_CLASS = {"train": 1000, "t10k": 200}
BUNDLED = Path(__file__).parents[1] / "torchcompress" / "data" / "bundled"


def draw(labels: Tensor, per_class: int, generator: torch.Generator) -> Tensor:
    """Returns the sorted indices of `per_class` images of each class."""
    chosen = [
        members[torch.randperm(len(members), generator=generator)[:per_class]]
        for members in (torch.nonzero(labels == label)[:, 0] for label in labels.unique())
    ]
    return torch.cat(chosen).sort().values


def main(folder: Path) -> None:
    """Writes four idx files into the package."""
    generator = torch.Generator().manual_seed(SEED)
    for split, per_class in PER_CLASS.items():
        names = f"{split}-images-idx3-ubyte.gz", f"{split}-labels-idx1-ubyte.gz"
        images, labels = (read_idx(folder / name) for name in names)
        chosen = draw(labels, per_class, generator)
        for name, values in zip(names, (images[chosen], labels[chosen]), strict=True):
            path = BUNDLED / f"fashion-mnist-mini-{name}"
            write_idx(path, values)
            print(f"{path.name}: {tuple(values.shape)}, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DEBIAN_FOLDER)

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

MakeLoader = Callable[..., DataLoader[tuple[Tensor, ...]]]


@pytest.fixture
def make_model() -> Callable[[], nn.Sequential]:
    """Makes equal small convolutional classifiers with BatchNorm and Dropout, four classes."""

    def make() -> nn.Sequential:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return nn.Sequential(
                nn.Conv2d(3, 8, 3, padding=1, bias=False),
                nn.BatchNorm2d(8),
                nn.ReLU(),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                nn.Dropout(0.1),
                nn.Linear(8, 4),
            )

    return make


@pytest.fixture
def make_loader() -> MakeLoader:
    """Makes shuffled batches whose class is the brightest quarter of the image."""

    def make(count: int = 48, batch_size: int = 16) -> DataLoader[tuple[Tensor, ...]]:
        generator = torch.Generator().manual_seed(1)
        labels = torch.arange(count) % 4
        images = torch.randn(count, 3, 8, 8, generator=generator)
        images += 3 * nn.functional.one_hot(labels, 4)[:, :3, None, None]
        return DataLoader(TensorDataset(images, labels), batch_size, shuffle=True)

    return make

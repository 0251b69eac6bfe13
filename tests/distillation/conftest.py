from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn


@pytest.fixture
def make_model() -> Callable[..., nn.Sequential]:
    """Makes small classifiers with BatchNorm; `width` and `classes` decide the size."""

    def make(width: int = 8, classes: int = 4, seed: int = 0) -> nn.Sequential:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return nn.Sequential(
                nn.Conv2d(3, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                nn.Linear(width, classes),
            )

    return make


@pytest.fixture
def batches() -> list[tuple[Tensor, Tensor]]:
    """Three batches of sixteen images, four classes."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(48) % 4
    images = torch.randn(48, 3, 8, 8, generator=generator)
    images += 3 * nn.functional.one_hot(labels, 4)[:, :3, None, None]
    return list(zip(images.split(16), labels.split(16), strict=True))

"""A small network and a training loop for the tests of pruning in the loop."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from torchcompress.core.modules import named_tensors
from torchcompress.pruning import PruningPlan

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
"""An example input of `net`."""


def net() -> nn.Sequential:
    """Returns equal networks of two convolutions with batch norms and a classifier."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(32, 4),
        )


def batches(count: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields batches number `first` and on of an endless fixed sequence."""
    for index in range(first, first + count):
        generator = torch.Generator().manual_seed(index)
        yield (
            torch.randn(4, 3, 8, 8, generator=generator),
            torch.randint(4, (4,), generator=generator),
        )


def train(
    model: Callable[[Tensor], Tensor], optimizers: Sequence[Optimizer], steps: int, first: int = 0
) -> None:
    """Takes optimizer steps."""
    for images, labels in batches(steps, first):
        for optimizer in optimizers:
            optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        for optimizer in optimizers:
            optimizer.step()


def sgd(model: nn.Module) -> torch.optim.SGD:
    """Returns SGD with momentum."""
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


def kept(tensor: Tensor, name: str, plans: Sequence[PruningPlan]) -> Tensor:
    """Returns what plans leave of a tensor, sliced by hand."""
    values = tensor.detach().numpy()
    for plan in plans:
        for dim, gone in plan.removed.get(name, {}).items():
            values = np.delete(values, gone, dim) if values.shape[dim] > 1 else values
    return torch.from_numpy(values)


def same_tensors(a: nn.Module, b: nn.Module) -> bool:
    """Whether two models have bit-equal parameters and buffers."""
    left, right = named_tensors(a), named_tensors(b)
    return left.keys() == right.keys() and all(torch.equal(left[n], right[n]) for n in left)

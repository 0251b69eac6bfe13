"""One of two processes that train and sparsify a network together; run as a script by a test."""

import sys

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from torchcompress import Target
from torchcompress.pruning import Iterative, MagnitudePruner, RigL


def network(seed: int) -> nn.Sequential:
    """Returns a network of linear layers."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 3)
    )


def batch(step: int) -> tuple[Tensor, Tensor]:
    """Returns inputs (8, 6) and labels (8,) of a step."""
    generator = torch.Generator().manual_seed(step)
    return torch.randn(8, 6, generator=generator), torch.randint(3, (8,), generator=generator)


def prune(model: nn.Module, inner: nn.Module, share: slice = slice(None)) -> MagnitudePruner:
    """Takes eight steps, on a part of each batch.

    Args:
        model: What runs.
        inner: The model in it, which is pruned.
        share: Which samples of each batch.
    """
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
    pruner = MagnitudePruner(
        inner,
        Target(sparsity=0.6),
        schedule=Iterative(cuts=3, every=2),
        growth=RigL(every=3, end=8),
    )
    pruner.attach(optimizer)
    for step in range(8):
        inputs, labels = (part[share] for part in batch(step))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
    return pruner


def prune_together(store: str, rank: int) -> tuple[nn.Module, MagnitudePruner]:
    """Trains as process `rank` of two, which begin with weights and masks of their own.

    Args:
        store: The file through which the processes meet.
        rank: 0 or 1.
    """
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    try:
        model = network(seed=rank)
        late = _Late(model)
        return model, prune(late, model, slice(rank, None, 2))
    finally:
        dist.destroy_process_group()


class _Late(nn.Module):
    """Is wrapped only when it first runs, after a pruner has made its first masks."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.wrap: list[DistributedDataParallel] = []

    def forward(self, x: Tensor) -> Tensor:
        if not self.wrap:
            self.wrap.append(DistributedDataParallel(self.model))
        return self.wrap[0](x)


if __name__ == "__main__":
    torch.save(prune_together(sys.argv[1], 1)[0].state_dict(), sys.argv[2])

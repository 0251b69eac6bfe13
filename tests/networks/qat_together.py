"""One of two processes that train a prepared network together; run as a script by a test."""

import sys

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import torchcompress as tc

STEPS = 4


def prepared() -> nn.Module:
    """Returns a prepared network, equal in every process."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    )
    return tc.prepare_qat(network, batch(0), tc.QATConfig(placement="all", averaging=0.5))


def batch(step: int) -> Tensor:
    """Returns the images (8, 3, 6, 6) of a step; they grow, so that ranges move."""
    generator = torch.Generator().manual_seed(step)
    return (1 + step) * torch.randn(8, 3, 6, 6, generator=generator)


def train(model: nn.Module, share: slice) -> None:
    """Takes steps on a part of each batch."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    model.train()
    for step in range(STEPS):
        optimizer.zero_grad()
        model(batch(step)[share]).square().mean().backward()
        optimizer.step()


def train_alone() -> nn.Module:
    """Trains in one process on whole batches."""
    model = prepared()
    train(model, slice(None))
    return model


def qat_together(store: str, rank: int) -> nn.Module:
    """Trains as process `rank` of two on half of each batch.

    Args:
        store: The file through which the processes meet.
        rank: 0 or 1.
    """
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    try:
        model = prepared()
        train(DistributedDataParallel(model), slice(4 * rank, 4 * rank + 4))
        return model
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    torch.save(qat_together(sys.argv[1], 1).state_dict(), sys.argv[2])

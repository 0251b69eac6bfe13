"""One of two processes that train and cut a network together; run as a script by a test."""

import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from training_loop import X, batches, net, sgd, train

from torchcompress import Target
from torchcompress.pruning import ChannelPruner, Iterative


def train_together(store: str, rank: int) -> tuple[nn.Module, ChannelPruner]:
    """Trains as process `rank` of two, each of which would plan other cuts by its data.

    Args:
        store: The file through which the processes meet.
        rank: 0 or 1.
    """
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    try:
        model = net()
        optimizer = sgd(model)
        pruner = ChannelPruner(
            model,
            X,
            Target(macs=0.5),
            schedule=Iterative(cuts=3, every=1, begin=1),
            importance="variance",
            data=[images + rank for images, _ in batches(1, first=rank)],
            round_to=1,
            prove=False,
        )
        pruner.attach(optimizer)
        wrapped = DistributedDataParallel(model)
        for step in range(4):
            cuts = len(pruner.plans)
            train(wrapped, [optimizer], 1, first=2 * step + rank)
            if len(pruner.plans) > cuts:
                wrapped = DistributedDataParallel(model)
        return model, pruner
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    torch.save(train_together(sys.argv[1], 1)[0].state_dict(), sys.argv[2])

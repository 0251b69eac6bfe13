"""Measured latency at half of the MACs, with and without rounding.

All models of a row run in turns, on one thread, batch 1, channels_last. The weights are random:
what counts here is which shapes remain.
"""

from typing import Any

import torch
from torch import nn
from torchvision.models import get_model

from peer.torch_pruning_runs import pruned_to_macs
from torchcompress import Target
from torchcompress.graph import count_macs
from torchcompress.metrics.latency import measure_latency
from torchcompress.pruning import prune_channels

MODELS = ("resnet18", "resnet50", "mobilenet_v2", "convnext_tiny")
IMAGE_SIZE = 224
KEPT = 0.5


def measure(model: str) -> dict[str, Any]:
    """Returns milliseconds of the model and of what each tool leaves of it."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    net = get_model(model, weights=None).eval()
    x = torch.rand(1, 3, IMAGE_SIZE, IMAGE_SIZE)
    models: dict[str, nn.Module] = {"dense": net}
    for round_to in (1, 8):
        models[f"ours_{round_to}"] = prune_channels(net, x, Target(macs=KEPT), round_to=round_to)
        models[f"peer_{round_to}"] = pruned_to_macs(net, x, KEPT, round_to=round_to)
    whole = count_macs(net, x)
    times = measure_latency({name: (m, x) for name, m in models.items()})
    return {
        name: {"ms": times.milliseconds(name), "macs": count_macs(m, x) / whole}
        for name, m in models.items()
    }

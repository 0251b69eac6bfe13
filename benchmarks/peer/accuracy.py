"""Accuracy after the same fine-tune, at the same MACs.

A checkpoint of Fashion-MNIST is cut by each tool with the same importance, then trained for two
passes over the 10,000 bundled training images, with the same seeds, order and steps. Accuracy is
on all 10,000 test images.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from torchvision.models import get_model

from peer.torch_pruning_runs import pruned_to_macs
from torchcompress import Target, Trainer, TrainerConfig, evaluate
from torchcompress.data import open_data
from torchcompress.graph import count_macs
from torchcompress.pruning import prune_channels

MODELS = ("resnet18", "mobilenet_v2")
KEPT = (0.5, 0.3)
SEEDS = (0, 1, 2)
IMAGE_SIZE = 32
ROUND_TO = 8
EPOCHS = 2
LEARNING_RATE = 0.02


def load(model: str, checkpoints: str, size: int = IMAGE_SIZE) -> nn.Module:
    net = get_model(model, weights=None, num_classes=10)
    file = Path(checkpoints) / f"{model}_fashion_mnist_{size}px.safetensors"
    net.load_state_dict(load_file(file))
    return net.eval()


def cut(net: nn.Module, tool: str, kept: float) -> nn.Module:
    x = torch.randn(1, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(0))
    if tool == "peer":
        return pruned_to_macs(net, x, kept, round_to=ROUND_TO)
    return prune_channels(net, x, Target(macs=kept), round_to=ROUND_TO)


def fine_tune(
    model: str, tool: str, kept: float, seed: int, checkpoints: str, data: str | None
) -> dict[str, Any]:
    """Returns the accuracies, as fractions, before and after the fine-tune."""
    torch.set_num_threads(1)
    net = load(model, checkpoints)
    x = torch.zeros(1, 3, IMAGE_SIZE, IMAGE_SIZE)
    smaller = cut(net, tool, kept)
    train = open_data("fashion-mnist-mini", image_size=IMAGE_SIZE, batch_size=64, seed=seed).train
    test = open_data("fashion-mnist", data, image_size=IMAGE_SIZE, batch_size=256).val
    row = {
        "model": model,
        "tool": tool,
        "kept": kept,
        "seed": seed,
        "macs": count_macs(smaller, x) / count_macs(net, x),
        "params": sum(p.numel() for p in smaller.parameters())
        / sum(p.numel() for p in net.parameters()),
        "before": evaluate(smaller, test).fraction,
    }
    config = TrainerConfig(epochs=EPOCHS, lr=LEARNING_RATE, warmup_epochs=0.2, seed=seed)
    Trainer(smaller, train, config=config).fit()
    return {**row, "after": evaluate(smaller, test).fraction}

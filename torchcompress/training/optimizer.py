"""The optimizer of a training, and its learning rate at each step."""

import math

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from torchcompress.core.errors import CompressError
from torchcompress.training.config import TrainerConfig


def build_optimizer(model: nn.Module, config: TrainerConfig) -> Optimizer:
    """Returns the optimizer over every parameter that requires a gradient.

    Parameters of fewer than two dimensions (norms and biases) get no weight decay.

    Args:
        model: What is trained.
        config: Which optimizer, and its numbers.

    Raises:
        CompressError: No parameter requires a gradient.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        raise CompressError(
            "no parameter requires a gradient",
            where=type(model).__name__,
            hint="call model.requires_grad_(True)",
        )
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [{**group, "initial_lr": config.lr} for group in groups if group["params"]]
    fused = all(p.device.type in ("cpu", "cuda") for p in trained)
    if config.optimizer == "adamw":
        return AdamW(groups, lr=config.lr, fused=fused)
    nesterov = config.momentum > 0
    return SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=nesterov, fused=fused)


def lr_factor(step: int, warmup: float, total: int) -> float:
    """Returns what the highest learning rate is multiplied by: linear warm-up, then a cosine to 0.

    Args:
        step: The step, counted from 0 over all epochs.
        warmup: Steps of warm-up.
        total: Steps in all.
    """
    if step < warmup:
        return min(1.0, (step + 1) / warmup)
    done = min(1.0, (step - warmup) / (total - warmup))
    return 0.5 * (1 + math.cos(math.pi * done))


def set_lr(optimizer: Optimizer, factor: float) -> None:
    """Sets each group's learning rate to `factor` times its highest."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor

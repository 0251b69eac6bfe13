"""Mixup (Zhang et al., 2018)."""

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Beta

from torchcompress.core.inputs import map_tensors


def mixup(inputs: Any, targets: Tensor, alpha: float) -> tuple[Any, Tensor]:
    """Blends each sample, and its target, with another one of the batch.

    One share, drawn from Beta(alpha, alpha), holds for the whole batch. The randomness is torch's
    global one.

    Args:
        inputs: A tensor (N, ...) or a nested tuple, list or dict of such; integers stay as they
            are.
        targets: Rows of class weights (N, C).
        alpha: Above 0; the larger, the stronger the blend.

    Returns:
        The blended inputs and targets.
    """
    share = float(Beta(alpha, alpha).sample())
    partner = torch.randperm(len(targets)).to(targets.device)

    def blend(value: Tensor) -> Tensor:
        return value.lerp(value[partner], 1 - share) if value.is_floating_point() else value

    return map_tensors(blend, inputs), blend(targets)

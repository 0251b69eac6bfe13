"""How much each unit of a coupled group matters."""

import numpy as np
import torch
from torch import Tensor

from torchcompress.core.errors import CompressError
from torchcompress.graph.groups import Group

Scores = dict[str, np.ndarray]
"""For each group, by name, one score a unit; the lowest go first."""


def magnitude(groups: list[Group], tensors: dict[str, Tensor], p: float = 2) -> Scores:
    """Scores units by the size of the weights that would go with them.

    For each weight of a group the Lp norm of a unit's slice, over the layer's mean; then the mean
    over all weights of the group, so that layers tied by a residual are ranked by what the whole
    removal costs (Li et al. 2017, "Pruning Filters for Efficient ConvNets"; the sum over coupled
    layers as in Fang et al. 2023, "DepGraph").

    Args:
        groups: Coupled groups.
        tensors: The model's parameters and buffers by name.
        p: Order of the norm, above 0.

    Raises:
        CompressError: A weight that is not finite, or a `p` that is not positive.
    """
    if p <= 0:
        raise CompressError(f"p={p:g} is not positive", where="importance")
    scores: Scores = {}
    for group in groups:
        parts = []
        for (name, dim), indices in group.members.items():
            weight = tensors[name]
            if weight.dim() > 1 and weight.is_floating_point():
                parts.append(_normalised(_slices(name, weight, dim, p), indices, p))
        scores[group.name] = np.mean(parts, axis=0) if parts else np.ones(group.units)
    return scores


def _slices(name: str, weight: Tensor, dim: int, p: float) -> np.ndarray:
    """Returns the sum of |w|^p of each index along a dimension."""
    values = weight.detach().to(torch.float64).abs().pow(p)
    sums = values.transpose(0, dim).flatten(1).sum(1).cpu().numpy()
    if not np.isfinite(sums).all():
        raise CompressError(
            "holds NaN or infinity", where=name, hint="prune a model whose weights are finite"
        )
    return sums


def _normalised(sums: np.ndarray, indices: np.ndarray, p: float) -> np.ndarray:
    norms = sums[indices].sum(1) ** (1 / p)
    mean = norms.mean()
    return norms / mean if mean > 0 else norms

"""The weights of least error for a choice of which stay, by whatever solver is fastest."""

import torch
from torch import Tensor

from torchcompress.reconstruction.gram import DAMPING, damped, inverse
from torchcompress.reconstruction.obs import prune, saliency
from torchcompress.reconstruction.statistics import Moments
from torchcompress.reconstruction.support import Fit, fit_support


def fit(moments: Moments, prior: Tensor, kept: Tensor, *, damping: float = DAMPING) -> Fit:
    """Returns the weights of (nearly) least error that are zero outside `kept`, and their worth.

    Short supports are solved exactly, row by row. Where these would take longer, the weights of
    least error without a support are found first, and those outside it are then removed column by
    column (`obs.prune`). A row is left as it was, but for its zeros, where that gives less error.

    Args:
        moments: Sums of inputs and wanted outputs, centered where a constant is fitted too.
        prior: What the weights are drawn to, (groups, outputs, columns).
        kept: Where weights may stay, bool, of the same shape.
        damping: Of the pull, relative to the mean of the Gram matrix's diagonal.

    Returns:
        The weights, and what the removal of each raises the squared error by.
    """
    prior = prior.to(moments.xx.dtype)
    columns = prior.shape[2]
    exact = float(kept.sum(2).double().pow(3).sum())
    sweep = float(len(prior) * (4 * columns**3 + prior.shape[1] * columns**2))
    found = (
        fit_support(moments, prior, kept, damping=damping)
        if exact <= sweep
        else _fit_by_sweep(moments, prior, kept, damping)
    )
    alone = prior * kept
    worse = moments.error(found.weight) > moments.error(alone)
    return Fit(torch.where(worse[:, :, None], alone, found.weight), found.saliency)


def removal_costs(moments: Moments, weight: Tensor, *, damping: float = DAMPING) -> Tensor:
    """Returns what the removal of each weight alone raises the squared error by.

    Args:
        moments: Sums of the inputs, centered where a constant is fitted too.
        weight: (groups, outputs, columns).
        damping: Relative to the mean of the Gram matrix's diagonal.
    """
    return 2 * saliency(weight.to(moments.xx.dtype), inverse(moments.xx, damping))


def _fit_by_sweep(moments: Moments, prior: Tensor, kept: Tensor, damping: float) -> Fit:
    gram = damped(moments.xx, damping)
    energy = (gram - moments.xx).diagonal(dim1=1, dim2=2)[:, None, :]
    inverted = inverse(moments.xx, damping)
    ideal = (moments.xy.mT + energy * prior) @ inverted
    weight = prune(ideal, moments.xx, kept, damping=damping)
    return Fit(weight, 2 * saliency(weight, inverted))

"""The weights of least error for a choice of which stay, by whatever solver is fastest."""

import torch
from torch import Tensor

from torchcompress.reconstruction.gram import DAMPING, inverse, pull
from torchcompress.reconstruction.obs import Tiles, prune, removal_order, saliency
from torchcompress.reconstruction.statistics import Moments
from torchcompress.reconstruction.support import Fit, fit_support

SMALL = 10**8
"""Steps up to which weights are removed one by one: some seconds."""


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
    weight = torch.where(worse[:, :, None], alone, found.weight)
    small = weight.numel() * columns**2 <= SMALL
    return Fit(weight, removal_costs(moments, weight, damping=damping) if small else found.saliency)


def removal_costs(moments: Moments, weight: Tensor, *, damping: float = DAMPING) -> Tensor:
    """Returns what the removal of each weight raises the squared error by; zero for a zero.

    In a small layer the weights of a row go one by one, each at its price after those before it,
    or theirs where that is more: the costs of a row so add up to its error. In a large one it is
    the price of the removal of that weight alone, which says too little of several that stand for
    each other.

    Args:
        moments: Sums of the inputs, centered where a constant is fitted too.
        weight: (groups, outputs, columns).
        damping: Relative to the mean of the Gram matrix's diagonal.
    """
    inverted = inverse(moments.xx, damping)
    if weight.numel() * weight.shape[2] ** 2 > SMALL:
        return saliency(weight.to(inverted.dtype), inverted)
    step, cost = removal_order(weight.to(inverted.dtype), inverted)
    order = step.argsort(2)
    rising = cost.gather(2, order).cummax(2).values
    return torch.zeros_like(rising).scatter_(2, order, rising)


def choose_in_tiles(
    moments: Moments, prior: Tensor, kept: Tensor, tiles: Tiles, *, damping: float = DAMPING
) -> Tensor:
    """Returns which weights of each row of a tile stay, chosen while the columns before are solved.

    Args:
        moments: As in `fit`.
        prior: As in `fit`.
        kept: Where weights may stay.
        tiles: How many of how many columns stay.
        damping: As in `fit`.
    """
    inverted = inverse(moments.xx, damping)
    ideal = _ideal(moments, prior, inverted, damping) * kept
    return kept & (prune(ideal, inverted, kept, tiles=tiles) != 0)


def _fit_by_sweep(moments: Moments, prior: Tensor, kept: Tensor, damping: float) -> Fit:
    inverted = inverse(moments.xx, damping)
    ideal = _ideal(moments, prior, inverted, damping)
    weight = prune(ideal, inverted, kept)
    return Fit(weight, saliency(weight, inverted))


def _ideal(moments: Moments, prior: Tensor, inverted: Tensor, damping: float) -> Tensor:
    """Returns the weights of least damped error without a support."""
    energy = pull(moments.xx, damping)
    return (moments.xy.mT + energy[:, None, None] * prior.to(inverted.dtype)) @ inverted

"""Ridge least squares with an intercept, from streamed moments."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from torchcompress.reconstruction.gram import damped, positive_factor, pull
from torchcompress.reconstruction.statistics import WIDEST_DOUBLE, Moments

RIDGES = (1e-8, 1e-3, 1e-2, 1e-1, 1.0)
"""Strengths of the pull towards the weights as they are, to choose from."""
WIDE_RIDGE = 1e-2
"""The strength for layers too wide to try several."""


@dataclass(frozen=True)
class Affine:
    """An affine map of each group's inputs to its outputs.

    Attributes:
        weight: (groups, outputs, columns).
        constant: (groups, outputs), or None.
    """

    weight: Tensor
    constant: Tensor | None


def ridge_solution(moments: Moments, weight: Tensor, ridge: float, *, intercept: bool) -> Affine:
    """Returns the map of least error, drawn towards a given weight.

    Minimizes the squared error plus `ridge` times the mean energy of the inputs times the squared
    distance to `weight`; an input that is always zero keeps its weight.

    Args:
        moments: Sums over the rows.
        weight: (groups, outputs, columns).
        ridge: Above 0, relative to the mean of the inputs' energies.
        intercept: Whether a constant is fitted too.
    """
    about = moments.centered() if intercept else moments
    solved = weight.to(about.xx.dtype, copy=True)
    live = (about.xx.diagonal(dim1=1, dim2=2) > 0).any(0).nonzero()[:, 0]
    xx, prior = about.xx[:, live][:, :, live], solved[:, :, live].mT
    gap = about.xy[:, live] - xx @ prior
    factor = positive_factor(damped(xx, ridge), 9 * pull(xx, ridge))
    solved[:, :, live] = (prior + torch.cholesky_solve(gap, factor)).mT
    return Affine(solved, moments.constant(solved) if intercept else None)


def best_fit(fit: Moments, held: Moments, now: Affine, *, intercept: bool) -> Affine | None:
    """Returns a map that is better than the present one, or None where none was found.

    The strength of the ridge is the one that does best on rows that its fit has not seen; if it
    does better there than the present map, it is fitted again on all rows.

    Args:
        fit: Sums over the rows to fit on.
        held: Sums over the rows to judge on; the same object where there are no others.
        now: The map as it is.
        intercept: Whether a constant is fitted; if not, the present map has none.
    """
    ridges = RIDGES if now.weight.shape[2] <= WIDEST_DOUBLE else (WIDE_RIDGE,)
    errors = {}
    for ridge in ridges:
        found = ridge_solution(fit, now.weight, ridge, intercept=intercept)
        errors[ridge] = float(held.error(found.weight, found.constant).sum())
    best = min(ridges, key=errors.__getitem__)
    if not errors[best] < float(held.error(now.weight, now.constant).sum()):
        return None
    every = fit if fit is held else added(fit, held)
    return ridge_solution(every, now.weight, best, intercept=intercept)


def added(a: Moments, b: Moments) -> Moments:
    """Returns the sums over the rows of both."""
    return Moments(**{f.name: getattr(a, f.name) + getattr(b, f.name) for f in fields(Moments)})

"""Ridge least squares for the weights of each row that stay, and what each is worth."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from torchcompress.reconstruction.gram import DAMPING, damped, positive_factor, pull
from torchcompress.reconstruction.statistics import Moments

CHUNK = 1 << 24
"""Numbers of the largest batch of systems: 128 MiB in float64."""


@dataclass(frozen=True)
class Fit:
    """Weights of least error on a support.

    Attributes:
        weight: Zero outside the support, (groups, outputs, columns).
        saliency: What the squared error rises by where one weight of the support is removed and
            the rest solved anew, of the same shape; zero outside.
    """

    weight: Tensor
    saliency: Tensor


def fit_support(moments: Moments, prior: Tensor, kept: Tensor, *, damping: float = DAMPING) -> Fit:
    """Solves the normal equations of every row on its own support.

    Minimises the squared error towards the wanted outputs plus `damping` times the mean input
    energy times the squared distance to `prior`. Time is that of a Cholesky factor and inverse of
    each support; rows of about the same length are solved together.

    Args:
        moments: Sums of inputs and wanted outputs, centered where a constant is fitted too.
        prior: What to stay close to, (groups, outputs, columns).
        kept: The support, bool, of the same shape.
        damping: Above 0, relative to the mean of the Gram matrix's diagonal.

    Returns:
        The weights and their saliency, in the dtype of the moments.
    """
    gram = damped(moments.xx, damping)
    right = moments.xy.mT + pull(moments.xx, damping)[:, None, None] * prior
    weight, saliency = torch.zeros_like(right), torch.zeros_like(right)
    for group, rows, columns, real in _supports(kept):
        inside = real[:, :, None] & real[:, None, :]
        system = gram[group][columns[:, :, None], columns[:, None, :]] * inside
        system.diagonal(dim1=1, dim2=2).add_(~real)
        factor = positive_factor(system, 1e-6 * system.diagonal(dim1=1, dim2=2).abs().mean(1))
        wanted = right[group][rows].gather(1, columns) * real
        solved = torch.cholesky_solve(wanted[:, :, None], factor)[:, :, 0] * real
        spread = torch.cholesky_inverse(factor).diagonal(dim1=1, dim2=2)
        weight[group] = _put(weight[group], rows, columns, solved)
        saliency[group] = _put(saliency[group], rows, columns, solved.square() / spread)
    return Fit(weight, saliency)


def _supports(kept: Tensor) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
    """Yields batches of rows of a group: their indices, their columns and which of these count."""
    lengths = kept.sum(2)
    for group in range(len(kept)):
        order = lengths[group].argsort(descending=True, stable=True)
        order = order[lengths[group][order] > 0]
        while len(order):
            longest = int(lengths[group][order[0]])
            count = max(1, CHUNK // longest**2)
            near = int((lengths[group][order[:count]] > 0.8 * longest).sum())
            rows, order = order[:near], order[near:]
            first = kept[group][rows].to(torch.uint8).argsort(dim=1, descending=True, stable=True)
            columns = first[:, :longest]
            yield group, rows, columns, kept[group][rows].gather(1, columns)


def _put(matrix: Tensor, rows: Tensor, columns: Tensor, values: Tensor) -> Tensor:
    """Returns a matrix with values at some columns of some rows."""
    return matrix.index_put((rows[:, None].expand_as(columns), columns), values)

"""Optimal Brain Surgeon on a layer: weights go, the rest of each row makes up for them.

For a row w of a layer and the Gram matrix H of its inputs, the removal of weight j costs
`w_j^2 / [H^-1]_jj` of squared output error once the others have moved by
`-w_j / [H^-1]_jj * H^-1_j` (Hassibi and Stork 1993). Rows do not depend on each other.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK = 128
"""Columns that are updated at once; the result does not depend on it."""


@dataclass(frozen=True)
class Tiles:
    """Tiles of weights that go together or compete: `rows` outputs times `columns` columns.

    Args:
        rows: Outputs of a tile, a divisor of the layer's outputs.
        columns: Columns of a tile, a divisor of the layer's columns.
        kept: How many weights of each row of a tile stay; None for a tile that goes or stays as
            one.
    """

    rows: int
    columns: int
    kept: int | None = None


def saliency(weight: Tensor, inverse_gram: Tensor) -> Tensor:
    """Returns the squared error that the removal of each weight alone costs, of the weight's shape.

    Args:
        weight: (groups, outputs, columns).
        inverse_gram: (groups, columns, columns).
    """
    return weight.square() / inverse_gram.diagonal(dim1=1, dim2=2)[:, None]


def removal_order(weight: Tensor, inverse_gram: Tensor) -> tuple[Tensor, Tensor]:
    """Removes all weights one by one, the cheapest of each row first, and says in which order.

    This is the exact order of Frantar, Singh and Alistarh 2022, "Optimal Brain Compression".
    Weights that are zero go first and cost nothing. Time is that of `groups * outputs * columns`
    steps of `columns^2` each, memory that of `groups * outputs * columns^2` numbers.

    Args:
        weight: (groups, outputs, columns), float64.
        inverse_gram: (groups, columns, columns), float64.

    Returns:
        The step at which each weight goes, int64, and what it costs then; both (groups, outputs,
        columns).
    """
    w = weight.flatten(0, 1).clone()
    inverses = inverse_gram.repeat_interleave(weight.shape[1], 0)
    rows = torch.arange(len(w), device=w.device)
    step = torch.full(w.shape, -1, dtype=torch.int64, device=w.device)
    cost = torch.zeros_like(w)
    gone = torch.zeros_like(w, dtype=torch.bool)
    for index in range(w.shape[1]):
        diagonal = inverses.diagonal(dim1=1, dim2=2)
        price = torch.where(gone, torch.inf, w.square() / diagonal.clamp(min=1e-300))
        column = price.argmin(1)
        step[rows, column], cost[rows, column] = index, price[rows, column]
        line, pivot = inverses[rows, column], diagonal[rows, column].clamp(min=1e-300)
        w -= (w[rows, column] / pivot)[:, None] * line
        inverses = inverses - line[:, :, None] * (line / pivot[:, None])[:, None, :]
        gone[rows, column] = True
        w[gone] = 0
    return step.reshape(weight.shape), cost.reshape(weight.shape)


def prune(
    weight: Tensor,
    inverse_gram: Tensor,
    kept: Tensor,
    *,
    tiles: Tiles | None = None,
    block: int = BLOCK,
) -> Tensor:
    """Zeroes weights column by column, each error made up for by the columns to its right.

    The method is that of Frantar and Alistarh 2023, "SparseGPT", with its Cholesky form of all
    inverses at once. A weight that is zero stays zero.

    Args:
        weight: (groups, outputs, columns).
        inverse_gram: (groups, columns, columns), float64; float32 where memory is short.
        kept: Where weights may stay, bool, of the weight's shape.
        tiles: How many weights of each row of a tile stay; those whose removal costs most then,
            chosen on the way. Its columns divide `block`, which else is made to.
        block: Columns at once.

    Returns:
        The weight after, of the same shape, in the inverse's dtype.
    """
    w = weight.to(inverse_gram.dtype, copy=True)
    allowed = kept & (weight != 0)
    upper = torch.linalg.cholesky(inverse_gram, upper=True)
    width = 1 if tiles is None else tiles.columns
    block = max(block // width, 1) * width
    for start in range(0, w.shape[2], block):
        end = min(start + block, w.shape[2])
        piece, factor = w[:, :, start:end], upper[:, start:end, start:end]
        errors = torch.zeros_like(piece)
        stays = allowed[:, :, start:end].clone()
        for column in range(end - start):
            if tiles is not None and tiles.kept is not None and column % width == 0:
                ahead = slice(column, column + width)
                prices = _prices(piece[:, :, ahead], factor[:, ahead, ahead])
                best = prices.topk(tiles.kept, dim=2).indices
                dearest = torch.zeros_like(stays[:, :, ahead]).scatter_(2, best, True)
                stays[:, :, ahead] &= dearest
            value = piece[:, :, column]
            error = torch.where(stays[:, :, column], 0, value) / factor[:, column, column, None]
            piece[:, :, column:] -= error[:, :, None] * factor[:, column, None, column:]
            errors[:, :, column] = error
        piece.mul_(stays)
        w[:, :, end:] -= errors @ upper[:, start:end, end:]
    return w


def _prices(weight: Tensor, factor: Tensor) -> Tensor:
    return (weight / factor.diagonal(dim1=1, dim2=2)[:, None]).square()

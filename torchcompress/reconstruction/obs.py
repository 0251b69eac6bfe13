"""Optimal Brain Surgeon on a layer: weights go, the rest of each row makes up for them.

For a row w of a layer and the Gram matrix H of its inputs, the removal of weight j costs
`w_j^2 / (2 [H^-1]_jj)` of squared output error once the others have moved by
`-w_j / [H^-1]_jj * H^-1_j` (Hassibi and Stork 1992). Rows do not depend on each other.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from torchcompress.reconstruction.gram import DAMPING, inverse

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
    """Returns what the removal of each weight alone costs, (groups, outputs, columns).

    Args:
        weight: (groups, outputs, columns).
        inverse_gram: (groups, columns, columns).
    """
    return weight.square() / (2 * inverse_gram.diagonal(dim1=1, dim2=2)[:, None])


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
        price = torch.where(gone, torch.inf, w.square() / (2 * diagonal.clamp(min=1e-300)))
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
    gram: Tensor,
    kept: Tensor | None = None,
    *,
    sparsity: float | None = None,
    tiles: Tiles | None = None,
    damping: float = DAMPING,
    inverted: Tensor | None = None,
    block: int = BLOCK,
) -> Tensor:
    """Zeroes weights column by column, each error made up for by the columns to its right.

    The method is that of Frantar and Alistarh 2023, "SparseGPT", with its Cholesky form of all
    inverses at once. Which weights go is given by `kept`, or chosen on the way by the cost of
    their removal: `sparsity` of every `block` columns, or what `tiles` says. A weight that is zero
    stays zero.

    Args:
        weight: (groups, outputs, columns).
        gram: (groups, columns, columns), float64; float32 where memory is short.
        kept: Where weights stay, bool, of the weight's shape.
        sparsity: Fraction of the weights that go, in [0, 1]; with `tiles` without `kept`, of the
            tiles.
        tiles: What goes together or competes; its columns divide `block`, which else is made to.
        damping: Relative to the mean of the Gram matrix's diagonal.
        inverted: `inverse(gram, damping)`, where it is at hand.
        block: Columns at once.

    Returns:
        The weight after, of the same shape, in the Gram matrix's dtype.

    Raises:
        CalibrationError: The Gram matrix is not finite.
    """
    w = weight.to(gram.dtype, copy=True)
    allowed = weight != 0 if kept is None else kept & (weight != 0)
    if inverted is None:
        inverted = inverse(gram, damping)
    upper = torch.linalg.cholesky(inverted, upper=True)
    width = 1 if tiles is None else tiles.columns
    block = max(block // width, 1) * width
    for start in range(0, w.shape[2], block):
        end = min(start + block, w.shape[2])
        piece, factor = w[:, :, start:end], upper[:, start:end, start:end]
        errors = torch.zeros_like(piece)
        stays = allowed[:, :, start:end].clone()
        if sparsity is not None and tiles is None:
            stays &= _cheapest(_prices(piece, factor), sparsity)
        for column in range(end - start):
            if tiles is not None and column % width == 0:
                ahead = slice(column, column + width)
                prices = _prices(piece[:, :, ahead], factor[:, ahead, ahead])
                stays[:, :, ahead] &= _tile_choice(prices, tiles, sparsity)
            value = piece[:, :, column]
            error = torch.where(stays[:, :, column], 0, value) / factor[:, column, column, None]
            piece[:, :, column:] -= error[:, :, None] * factor[:, column, None, column:]
            errors[:, :, column] = error
        piece.mul_(stays)
        w[:, :, end:] -= errors @ upper[:, start:end, end:]
    return w


def _prices(weight: Tensor, factor: Tensor) -> Tensor:
    return (weight / factor.diagonal(dim1=1, dim2=2)[:, None]).square()


def _cheapest(prices: Tensor, sparsity: float) -> Tensor:
    """Returns where prices are not among the given fraction of the lowest of a group."""
    flat = prices.flatten(1)
    count = round(sparsity * flat.shape[1])
    stays = torch.ones_like(flat, dtype=torch.bool)
    stays.scatter_(1, flat.topk(count, dim=1, largest=False).indices, False)
    return stays.reshape(prices.shape)


def _tile_choice(prices: Tensor, tiles: Tiles, sparsity: float | None) -> Tensor:
    """Returns what stays of one column of tiles."""
    if tiles.kept is not None:
        best = prices.topk(tiles.kept, dim=2).indices
        return torch.zeros_like(prices, dtype=torch.bool).scatter_(2, best, True)
    tile = prices.unflatten(1, (-1, tiles.rows)).sum((2, 3))
    stays = _cheapest(tile, sparsity or 0.0)
    return stays[:, :, None].expand(-1, -1, tiles.rows).flatten(1)[:, :, None].expand_as(prices)

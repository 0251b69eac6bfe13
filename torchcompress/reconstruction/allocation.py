"""Which weights of a whole model stay, under one budget of error."""

from collections.abc import Mapping

import torch
from torch import Tensor

from torchcompress.reconstruction.obs import Tiles


def keep_dearest(
    cost: Mapping[str, Tensor], removed: int, tiles: Tiles | None = None
) -> dict[str, Tensor]:
    """Removes the weights whose removal costs least, whatever their layer.

    Where the costs of all layers are in the same unit, the rise of the model's output error, the
    least error for a number of zeros is where the next weight costs the same everywhere: one
    threshold, the multiplier of the budget's Lagrangian. So each layer gets its own sparsity.
    The dearest weight of each layer stays, so that none is cut through. Equal costs go in order.

    Args:
        cost: What the removal of each weight costs, (groups, outputs, columns), by layer; zero for
            a weight that is zero already.
        removed: How many weights go, over all layers.
        tiles: Weights that stay or go as one; then the tiles with the least mean cost go, and so
            many that at least `removed` weights do.

    Returns:
        Where weights stay, bool, of the shape of the costs.
    """
    scores = {
        name: values if tiles is None else tiled(values, tiles) for name, values in cost.items()
    }
    size = 1 if tiles is None else tiles.rows * tiles.columns
    flat = torch.cat([_spared(values) for values in scores.values()])
    count = -(-removed // size)
    kept = torch.ones_like(flat, dtype=torch.bool)
    if count > 0:
        threshold = flat.kthvalue(min(count, len(flat))).values
        kept = flat > threshold
        ties = (flat == threshold).nonzero()[:, 0]
        kept[ties[count - int((flat < threshold).sum()) :]] = True
    found, start = {}, 0
    for name, values in scores.items():
        mask = kept[start : start + values.numel()].reshape(values.shape)
        found[name] = mask if tiles is None else spread(mask, tiles)
        start += values.numel()
    return found


def keep_by_layer(
    cost: Mapping[str, Tensor], sparsity: float, tiles: Tiles | None = None
) -> dict[str, Tensor]:
    """Removes the same fraction of each layer, the weights whose removal costs least.

    Args:
        cost: As in `keep_dearest`.
        sparsity: Fraction of the weights of each layer that go.
        tiles: As in `keep_dearest`; or what competes, of which `tiles.kept` stay.
    """
    if tiles is not None and tiles.kept is not None:
        return {
            name: _best_of_each(values, tiles.columns, tiles.kept) for name, values in cost.items()
        }
    return {
        name: keep_dearest({name: values}, round(sparsity * values.numel()), tiles)[name]
        for name, values in cost.items()
    }


def tiled(values: Tensor, tiles: Tiles) -> Tensor:
    """Returns the mean over each tile, (groups, outputs / rows, columns / columns of a tile)."""
    return values.unflatten(2, (-1, tiles.columns)).unflatten(1, (-1, tiles.rows)).mean((2, 4))


def spread(mask: Tensor, tiles: Tiles) -> Tensor:
    """Returns a mask of tiles as one of weights."""
    return mask.repeat_interleave(tiles.rows, 1).repeat_interleave(tiles.columns, 2)


def _spared(values: Tensor) -> Tensor:
    """Returns the costs in one row, the highest of them made infinite."""
    flat = values.flatten().clone()
    flat[flat.argmax()] = torch.inf
    return flat


def _best_of_each(values: Tensor, columns: int, kept: int) -> Tensor:
    groups = values.unflatten(2, (-1, columns))
    best = groups.topk(kept, dim=3).indices
    return torch.zeros_like(groups, dtype=torch.bool).scatter_(3, best, True).flatten(2)

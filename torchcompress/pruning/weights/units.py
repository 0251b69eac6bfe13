"""Units: what goes together by a pattern, scored and chosen by the lowest scores."""

import torch
from torch import Tensor

from torchcompress.pruning.weights.pattern import NM, Block, Pattern
from torchcompress.pruning.weights.selection import Weight


def unit_scores(weight: Weight, scores: Tensor, pattern: Pattern | None) -> Tensor:
    """Returns one score for each unit of a weight: of a block, the mean of its weights.

    Args:
        weight: The weight.
        scores: One score a weight, of its shape.
        pattern: What goes together.

    Returns:
        (units,): by the order of `spread`.
    """
    if not isinstance(pattern, Block):
        return scores.flatten()
    groups, outputs, kernel, inputs = weight.to_matrices(scores).shape
    rows, columns = outputs // pattern.outputs, inputs // pattern.inputs
    shape = (groups, rows, pattern.outputs, kernel, columns, pattern.inputs)
    return weight.to_matrices(scores).reshape(shape).mean((2, 5)).flatten()


def spread(weight: Weight, units: Tensor, pattern: Pattern | None) -> Tensor:
    """Returns what is said of each unit as said of each weight.

    Args:
        weight: The weight.
        units: (units,).
        pattern: What goes together.

    Returns:
        Of the weight's shape.
    """
    if not isinstance(pattern, Block):
        return units.reshape(weight.parameter.shape)
    rows, columns = weight.outputs // pattern.outputs, weight.inputs // pattern.inputs
    blocks = units.reshape(weight.groups, rows, 1, weight.kernel, columns, 1)
    full = blocks.expand(-1, -1, pattern.outputs, -1, -1, pattern.inputs)
    return weight.from_matrices(
        full.reshape(weight.groups, weight.outputs, weight.kernel, weight.inputs)
    )


def candidates(weight: Weight, scores: Tensor, pattern: NM) -> Tensor:
    """Returns the `m - n` weights of the lowest scores in each group of `m`.

    Args:
        weight: The weight.
        scores: One score a weight, of its shape.
        pattern: How many of how many stay.

    Returns:
        Of the weight's shape, bool.
    """
    groups = weight.to_matrices(scores).unflatten(-1, (-1, pattern.m))
    lowest = groups.argsort(dim=-1, stable=True)[..., : pattern.m - pattern.n]
    chosen = torch.zeros_like(groups, dtype=torch.bool).scatter_(-1, lowest, True)
    return weight.from_matrices(chosen.flatten(-2))


def lowest(scores: Tensor, count: int) -> Tensor:
    """Returns where the `count` lowest scores are; among equal ones the first go first.

    Args:
        scores: (units,).
        count: How many, from 0 to all.

    Returns:
        (units,), bool.
    """
    if count <= 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    limit = scores.kthvalue(count).values
    below = scores < limit
    ties = (scores == limit).nonzero().flatten()
    below[ties[: count - int(below.sum())]] = True
    return below


def lowest_worth(scores: Tensor, gains: Tensor, needed: int) -> Tensor:
    """Returns the fewest units of the lowest scores that together gain at least `needed`.

    Args:
        scores: (units,).
        gains: What each unit gains, from 0, (units,), int64.
        needed: How much.

    Returns:
        (units,), bool.
    """
    order = scores.argsort(stable=True)
    total = gains[order].cumsum(0)
    count = int((total < needed).sum()) + 1 if needed > 0 else 0
    chosen = torch.zeros_like(scores, dtype=torch.bool)
    chosen[order[:count]] = True
    return chosen

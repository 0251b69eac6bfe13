"""The order in which the units of a whole model go, so that its outputs suffer least."""

from collections.abc import Sequence

import numpy as np

from torchcompress.graph.groups import Group
from torchcompress.graph.macs import RemainingCost, Term
from torchcompress.pruning.counts import CountedCost
from torchcompress.pruning.importance.base import Scores
from torchcompress.pruning.importance.error_curves import ErrorCurve

_STEPS = 32
"""Units of a group go in about so many steps."""
_AHEAD = (1, 2, 4)
"""Steps that may be taken at once, where an error is flat only further on."""
_LEAST = 1e-12
"""An error below this counts as this, so that what costs nothing goes by what it saves."""


def rank_cheapest_first(
    groups: Sequence[Group], curves: Sequence[ErrorCurve], terms: Sequence[Term]
) -> Scores:
    """Returns the place of every unit in the order in which the units of all groups go.

    The next units are those that raise the error of the outputs least for what they save, as the
    model is by then. The errors of groups add up.

    Args:
        groups: The groups.
        curves: What the units of each cost.
        terms: What is saved, as a sum of products of axes.
    """
    orders = [g.labels[curve.order] for g, curve in zip(groups, curves, strict=True)]
    cost = CountedCost(terms, orders)
    counts = np.zeros(len(groups), np.int64)
    scores = {group.name: np.empty(group.units) for group in groups}
    place = 0
    while True:
        best: tuple[float, int, int] | None = None
        whole = cost(counts)
        for index, (group, curve) in enumerate(zip(groups, curves, strict=True)):
            step, gone = max(1, group.units // _STEPS), int(counts[index])
            for count in (n * step for n in _AHEAD if gone + n * step < group.units):
                trial = counts.copy()
                trial[index] += count
                saved = whole - cost(trial)
                lost = max(curve.errors[gone + count] - curve.errors[gone], _LEAST)
                price = lost / saved if saved else np.inf
                if best is None or price < best[0]:
                    best = price, index, count
        if best is None:
            break
        _, index, count = best
        gone = int(counts[index])
        taken = curves[index].order[gone : gone + count]
        scores[groups[index].name][taken] = place + np.arange(count) / count
        counts[index] += count
        place += 1
    for group, curve, gone in zip(groups, curves, counts.tolist(), strict=True):
        scores[group.name][curve.order[gone:]] = place + np.arange(group.units - gone)
    return scores


def saved_terms(quantity: str, groups: Sequence[Group], cost: RemainingCost) -> list[Term]:
    """Returns what a target counts, as terms; multiply-accumulates stand for time."""
    if quantity == "channels":
        return [(group.width, [group.labels]) for group in groups]
    return cost.param_terms if quantity == "params" else cost.mac_terms

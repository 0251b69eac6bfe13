"""Choosing which units go, so that a target is met and no layer disappears."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from torchcompress.core.errors import TargetUnreachable
from torchcompress.core.target import Target
from torchcompress.graph.groups import Group
from torchcompress.graph.macs import RemainingCost
from torchcompress.pruning.importance import Scores

Removed = dict[str, np.ndarray]
"""For each group, by name, the positions of the units that go."""


@dataclass(frozen=True)
class Floors:
    """What must remain of each group.

    Attributes:
        round_to: A layer keeps a multiple of this many channels, rounded down; one that keeps
            fewer than that is left alone.
        min_channels: A layer keeps at least this many channels.
    """

    round_to: int = 8
    min_channels: int = 1

    def removed(self, group: Group, wanted: int) -> int:
        """Returns how many units go where `wanted` would, after rounding."""
        if wanted <= 0:
            return 0
        step = self.round_to // math.gcd(self.round_to, group.width)
        least = min(group.units, max(1, math.ceil(self.min_channels / group.width)))
        kept = group.units - wanted
        kept -= kept % step if kept >= step else 0
        return group.units - max(kept, least)


class Budget:
    """The units of a model that can go, in the order in which they would.

    Args:
        groups: The groups that may lose units, at least one.
        scores: A score for each unit; of equal ones each group loses the same share.
        cost: What remains of the model.
        floors: What must remain of each group.
        scope: `global` ranks all units together, `layer` takes the same fraction of each group.
    """

    def __init__(
        self, groups: list[Group], scores: Scores, cost: RemainingCost, floors: Floors, scope: str
    ) -> None:
        self._groups = groups
        self._orders = [np.argsort(scores[g.name], kind="stable") for g in groups]
        self._cost = cost
        self._floors = floors
        self._per_layer = scope == "layer"
        self._sizes = np.array([g.units for g in groups], np.int64)
        self._widths = np.array([g.width for g in groups], np.int64)
        owner = np.repeat(np.arange(len(groups)), self._sizes)
        ranked = np.concatenate([np.sort(scores[g.name], kind="stable") for g in groups])
        depth = np.concatenate([np.arange(g.units) / g.units for g in groups])
        self._ranking = owner[np.lexsort((owner, depth, ranked))]

    def meet(self, target: Target) -> Removed:
        """Returns the least that has to go for a target.

        Args:
            target: Channels, MACs or params.

        Raises:
            TargetUnreachable: Even the least that must remain costs more.
        """
        if target.quantity == "channels" and self._per_layer:
            return self._removed(self._at_fraction(target.value))
        measure = {"channels": self._channels, "macs": self._macs, "params": self._params}
        cost = measure[target.quantity]
        whole = cost(np.zeros_like(self._sizes))
        limit = target.absolute(whole)
        steps = int(self._sizes.max()) * 4
        last = steps if self._per_layer else len(self._ranking)
        at: Callable[[int], np.ndarray] = (
            (lambda n: self._at_fraction(1 - n / steps)) if self._per_layer else self._at_rank
        )
        least = cost(at(last))
        if least > limit:
            reachable = math.ceil(1000 * least / whole) / 1000
            raise TargetUnreachable(
                f"{target} asks for {limit:,.0f}, and at least {least:,.0f} of {whole:,.0f} remain",
                where=f"target.{target.quantity}",
                hint=f"ask for {target.quantity}={reachable:g} or more, or exclude less",
            )
        low, high = 0, last
        while low < high:
            middle = (low + high) // 2
            if cost(at(middle)) <= limit:
                high = middle
            else:
                low = middle + 1
        return self._removed(self._settled(at(max(low - 1, 0)), at(low), cost, limit))

    def _settled(
        self,
        above: np.ndarray,
        below: np.ndarray,
        cost: Callable[[np.ndarray], int],
        limit: float,
    ) -> np.ndarray:
        """Goes from just above the limit to below it, group by group, with the least overshoot."""
        counts = above.copy()
        while cost(counts) > limit:
            costs = {}
            for index in np.flatnonzero(counts != below):
                trial = counts.copy()
                trial[index] = below[index]
                costs[int(index)] = cost(trial)
            enough = [index for index, value in costs.items() if value <= limit]
            index = max(enough or costs, key=lambda i: costs[i])
            counts[index] = below[index]
        return counts

    def _at_rank(self, count: int) -> np.ndarray:
        wanted = np.bincount(self._ranking[:count], minlength=len(self._groups))
        return self._rounded(wanted)

    def _at_fraction(self, kept: float) -> np.ndarray:
        return self._rounded(np.array([n - _floor(kept * n) for n in self._sizes.tolist()]))

    def _rounded(self, wanted: np.ndarray) -> np.ndarray:
        pairs = zip(self._groups, wanted.tolist(), strict=True)
        return np.array([self._floors.removed(group, n) for group, n in pairs], np.int64)

    def _channels(self, counts: np.ndarray) -> int:
        return int(((self._sizes - counts) * self._widths).sum())

    def _macs(self, counts: np.ndarray) -> int:
        return self._cost.macs(self._labels(counts))

    def _params(self, counts: np.ndarray) -> int:
        return self._cost.params(self._labels(counts))

    def _labels(self, counts: np.ndarray) -> np.ndarray:
        parts = [
            group.labels[order[:count]]
            for group, order, count in zip(self._groups, self._orders, counts, strict=True)
        ]
        return np.concatenate(parts)

    def _removed(self, counts: np.ndarray) -> Removed:
        return {
            group.name: np.sort(order[:count])
            for group, order, count in zip(self._groups, self._orders, counts, strict=True)
            if count
        }


def _floor(number: float) -> int:
    return math.floor(number + 1e-9)

"""Choosing which units go, so that a target is met and no layer disappears."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from torchcompress.graph.groups import Group
from torchcompress.pruning.floors import Floors
from torchcompress.pruning.importance import Scores

Removed = dict[str, np.ndarray]
"""For each group, by name, the positions of the units that go."""

Measure = Callable[[np.ndarray], float]
"""Returns a cost for how many units go of each group."""


def removal_orders(groups: Sequence[Group], scores: Scores) -> list[np.ndarray]:
    """Returns for each group the positions of its units in the order in which they go."""
    return [np.argsort(scores[group.name], kind="stable") for group in groups]


@dataclass(frozen=True)
class Budget:
    """The units of a model that can go, and the order in which they would.

    Attributes:
        groups: The groups that may lose units, at least one.
        scores: A score for each unit; of equal ones each group loses the same share.
        rivals: Positions of the groups that are ranked together, class by class; each class loses
            the same fraction of its units.
        floors: What must remain of each group.
        ratios: The fraction kept of groups that take no part in the ranking, by name.
    """

    groups: Sequence[Group]
    scores: Scores
    rivals: Sequence[Sequence[int]]
    floors: Floors
    ratios: Mapping[str, float]

    def keep(self, fraction: float) -> np.ndarray:
        """Returns how many units go of each group where each keeps the same fraction."""
        return self._rounded(self._wanted(fraction))

    def level(self, fraction: float, measure: Measure, limit: float) -> np.ndarray | None:
        """Returns how many units go of each group where each keeps about the same fraction.

        What rounding takes too much comes back, at most one step a group, the group first that
        rounding takes the largest share of, so that the cost is below the limit by less than a
        step.

        Args:
            fraction: The fraction kept.
            measure: The cost; it does not grow with what goes.
            limit: What it must not pass.

        Returns:
            The counts, or None where they cost more.
        """
        wanted, counts = self._wanted(fraction), self.keep(fraction)
        if measure(counts) > limit:
            return None
        sizes = np.array([group.units for group in self.groups])
        lost = np.maximum(counts - wanted, 0) / sizes
        for index in np.argsort(-lost, kind="stable").tolist():
            group = self.groups[index]
            if lost[index] and group.name not in self.ratios:
                trial = counts.copy()
                trial[index] = self.floors.fewer(group, int(counts[index]))
                if measure(trial) <= limit:
                    counts = trial
        return counts

    def meet(self, measure: Measure, limit: float) -> np.ndarray | None:
        """Returns how many units go of each group so that a cost is just below a limit.

        The ranking is followed as far as the limit needs; what went too far, because a whole
        rounding step or a tie went at once, comes back, the most important units first.

        Args:
            measure: The cost; it does not grow with what goes.
            limit: What it must not pass.

        Returns:
            The counts, or None where even the least that must remain costs more.
        """
        if measure(self._at(self._steps)) > limit:
            if self.floors.yielding:
                return None
            return replace(self, floors=replace(self.floors, yielding=True)).meet(measure, limit)
        low, high = 0, self._steps
        while low < high:
            middle = (low + high) // 2
            if measure(self._at(middle)) <= limit:
                high = middle
            else:
                low = middle + 1
        counts = self._settled(self._at(max(low - 1, 0)), self._at(low), measure, limit)
        return self._refilled(counts, measure, limit)

    def most(self) -> np.ndarray:
        """Returns how many units go of each group at most."""
        least = replace(self, floors=replace(self.floors, yielding=True))
        return least._at(least._steps)

    def removed(self, counts: np.ndarray) -> Removed:
        """Returns the units that go where each group loses so many."""
        orders = removal_orders(self.groups, self.scores)
        return {
            group.name: np.sort(order[:count])
            for group, order, count in zip(self.groups, orders, counts, strict=True)
            if count
        }

    @cached_property
    def _rankings(self) -> list[np.ndarray]:
        return [self._ranking(rivals) for rivals in self.rivals]

    @property
    def _steps(self) -> int:
        return max(map(len, self._rankings)) * (1 if len(self._rankings) == 1 else 4)

    def _at(self, level: int) -> np.ndarray:
        """Returns how many units go of each group at a level from 0 to `_steps`."""
        wanted = np.zeros(len(self.groups), np.int64)
        for ranking in self._rankings:
            count = -(-len(ranking) * level // max(self._steps, 1))
            wanted += np.bincount(ranking[:count], minlength=len(wanted))
        return np.maximum(self.keep(1.0), self._rounded(wanted))

    def _ranking(self, rivals: Sequence[int]) -> np.ndarray:
        """Returns the group of each unit of a class, in the order in which units go."""
        ranked = [i for i in rivals if self.groups[i].name not in self.ratios]
        if not ranked:
            return np.zeros(0, np.int64)
        owner = np.repeat(ranked, [self.groups[i].units for i in ranked])
        score = np.concatenate([np.sort(self.scores[self.groups[i].name]) for i in ranked])
        depth = [np.arange(self.groups[i].units) / self.groups[i].units for i in ranked]
        return owner[np.lexsort((owner, np.concatenate(depth), score))]

    def _settled(
        self, above: np.ndarray, below: np.ndarray, measure: Measure, limit: float
    ) -> np.ndarray:
        """Goes from just above the limit to below it, group by group, with the least overshoot."""
        counts = above.copy()
        while measure(counts) > limit:
            costs = {}
            for index in np.flatnonzero(counts != below):
                trial = counts.copy()
                trial[index] = below[index]
                costs[int(index)] = measure(trial)
            enough = [index for index, value in costs.items() if value <= limit]
            index = max(enough or costs, key=lambda i: costs[i])
            counts[index] = below[index]
        return counts

    def _refilled(self, counts: np.ndarray, measure: Measure, limit: float) -> np.ndarray:
        """Gives units back while the limit allows it."""
        open_ = {i for i, group in enumerate(self.groups) if group.name not in self.ratios}
        ordered = [np.sort(self.scores[group.name]) for group in self.groups]
        counts = counts.copy()
        while open_ := {i for i in open_ if counts[i]}:
            index = max(open_, key=lambda i: (float(ordered[i][counts[i] - 1]), -i))
            trial = counts.copy()
            trial[index] = self.floors.fewer(self.groups[index], int(counts[index]))
            if measure(trial) <= limit:
                counts = trial
            else:
                open_.remove(index)
        return counts

    def _wanted(self, fraction: float) -> np.ndarray:
        """Returns how many units would go of each group without rounding and floors."""
        kept = [self.ratios.get(group.name, fraction) for group in self.groups]
        wanted = [
            g.units - _floor(k * self.floors.whole(g))
            for g, k in zip(self.groups, kept, strict=True)
        ]
        return np.array(wanted, np.int64)

    def _rounded(self, wanted: np.ndarray) -> np.ndarray:
        own = replace(self.floors, max_removed=1.0)
        return np.array(
            [
                (own if group.name in self.ratios else self.floors).removed(group, count)
                for group, count in zip(self.groups, wanted.tolist(), strict=True)
            ],
            np.int64,
        )


def _floor(number: float) -> int:
    return math.floor(number + 1e-9)

"""The choice of the units that go for a target."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import nn

from torchcompress.core.errors import TargetUnreachable, UnsupportedError
from torchcompress.core.target import Target
from torchcompress.graph.groups import Group
from torchcompress.graph.labels import Vector
from torchcompress.graph.macs import RemainingCost
from torchcompress.pruning.budget import Budget, Measure, Removed, removal_orders
from torchcompress.pruning.counts import CountedCost
from torchcompress.pruning.floors import Floors
from torchcompress.pruning.importance import Scores
from torchcompress.pruning.latency import CountedLatency, scores_by_time
from torchcompress.pruning.plan import PruningPlan
from torchcompress.pruning.scope import rivals


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Chooses the units that go, of whatever groups are left to choose from.

    Attributes:
        model: The model.
        groups: All its coupled groups.
        scores: A score for each unit of the groups that are not frozen.
        cost: What remains of the model.
        floors: What must remain of each group.
        scope: `global`, `layer` or `isomorphic`.
        ratios: The fraction kept of groups that have one of their own, by name.
        target: What remains.
        since: A plan of the model before earlier cuts, which the target is about; by default the
            target is about the model itself.
        latency: Makes the model's time of the orders in which units go, for a target in time.
        aim: What the limit is multiplied by, where a cut took longer than its prediction.
    """

    model: nn.Module
    groups: Sequence[Group]
    scores: Scores
    cost: RemainingCost
    floors: Floors
    scope: str
    ratios: Mapping[str, float]
    target: Target
    since: PruningPlan | None = None
    latency: Callable[[Sequence[Vector]], CountedLatency] | None = None
    aim: float = 1.0

    def __call__(self, free: list[Group]) -> Removed:
        """Returns the least that has to go of the given groups, at least one.

        Raises:
            TargetUnreachable: Even the least that must remain costs more.
            UnsupportedError: The model has nothing of what the target counts.
        """
        budget = Budget(
            free, self.scores, rivals(free, self.scope, self.model), self.floors, self.ratios
        )
        measure = self._measure(budget)
        if isinstance(measure, CountedLatency):
            weighed = scores_by_time(self.scores, free, budget.most(), measure)
            budget = replace(budget, scores=weighed)
        whole = self._whole(budget, measure)
        if not whole:
            raise UnsupportedError(
                f"the model has 0 {self.target.quantity}", where=f"target.{self.target.quantity}"
            )
        limit, counts = self.aim * self.target.absolute(whole), None
        if self.target.quantity == "channels":
            limit = math.floor(limit + 1e-9)
            if self.scope == "layer":
                counts = budget.level(self.target.value, measure, limit)
        if counts is None:
            counts = budget.meet(measure, limit)
        if counts is None:
            raise self._unreachable(budget, measure(budget.most()), limit, whole)
        return budget.removed(counts)

    def notes(self, removed: Removed) -> dict[str, str]:
        """Returns for each group whose width is not rounded what it keeps."""
        notes = {}
        for group in self.groups:
            count = len(removed.get(group.name, ()))
            if not self.floors.rounded(group, count):
                kept = (group.units - count) * group.width
                notes[group.name] = f"keeps {kept}, round_to={self.floors.round_to} gives way"
        return notes

    def predicted_ms(self, gone: Vector) -> float | None:
        """Returns the milliseconds without some labels; None for a target that is no time."""
        if self.latency is None:
            return None
        return self.latency([gone])(np.array([len(gone)]))

    def _measure(self, budget: Budget) -> Measure:
        if self.target.quantity == "channels":
            sizes = np.array([group.units for group in budget.groups], np.int64)
            widths = np.array([group.width for group in budget.groups], np.int64)
            return lambda counts: int(((sizes - counts) * widths).sum())
        orders = removal_orders(budget.groups, self.scores)
        labels = [g.labels[order] for g, order in zip(budget.groups, orders, strict=True)]
        if self.latency is not None:
            return self.latency(labels)
        terms = {"macs": self.cost.mac_terms, "params": self.cost.param_terms}
        return CountedCost(terms[self.target.quantity], labels)

    def _whole(self, budget: Budget, measure: Measure) -> float:
        """Returns the cost of the model that the target is about."""
        if self.since is None:
            return measure(np.zeros(len(budget.groups), np.int64))
        if self.target.quantity == "channels":
            return sum(self.floors.whole(group) * group.width for group in budget.groups)
        return {"macs": self.since.macs, "params": self.since.params}[self.target.quantity][0]

    def _unreachable(
        self, budget: Budget, least: float, limit: float, whole: float
    ) -> TargetUnreachable:
        absolute = self.target.quantity == "latency_ms"
        reachable = math.ceil(1000 * least / (1 if absolute else whole)) / 1000
        held = "; ".join(f"{g.name} {g.frozen}" for g in self._holders(budget))
        limits = [f"min_channels={self.floors.min_channels}"] * (self.floors.min_channels > 1)
        limits += [f"max_removed={self.floors.max_removed:g}"] * (self.floors.max_removed < 1)
        limits += ["ratios"] * bool(self.ratios)
        held = "; ".join(filter(None, [held, ", ".join(limits)]))
        excluded = any((group.frozen or "").endswith("is excluded") for group in self.groups)
        ways = [f"ask for {self.target.quantity}={reachable:g} or more"] * (reachable != 1)
        ways += [f"relax {' or '.join(limits)}"] * bool(limits) + ["exclude less"] * excluded
        return TargetUnreachable(
            f"{self.target} asks for {_number(limit)}, and at least {_number(least)} of "
            f"{_number(whole)} remain" + (f"; most is held by: {held}" if held else ""),
            where=f"target.{self.target.quantity}",
            hint=", or ".join(ways) or None,
        )

    def _holders(self, budget: Budget) -> list[Group]:
        """Returns the frozen groups whose removal would save most, at most three."""
        left = {"macs": self.cost.macs, "params": self.cost.params}.get(self.target.quantity)
        if left is None:
            return []
        most = zip(budget.groups, removal_orders(budget.groups, self.scores), strict=True)
        gone = [g.labels[o[:n]] for (g, o), n in zip(most, budget.most(), strict=True)]
        base = np.concatenate(gone)
        free = {group.name for group in budget.groups}
        held = [group for group in self.groups if group.name not in free]
        after = {group.name: left(np.concatenate([base, group.labels])) for group in held}
        held = [group for group in held if after[group.name] < left(base)]
        return sorted(held, key=lambda group: after[group.name])[:3]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"

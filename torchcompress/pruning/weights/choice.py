"""The choice of the weights that go, for a sparsity."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from torchcompress.core.errors import CompressError, did_you_mean
from torchcompress.core.target import Target
from torchcompress.pruning.weights.allocation import densities, erdos_renyi_kernel, zeros_for
from torchcompress.pruning.weights.pattern import NM, Block
from torchcompress.pruning.weights.selection import Selection, Weight
from torchcompress.pruning.weights.units import (
    candidates,
    lowest,
    lowest_worth,
    spread,
    unit_scores,
)

SCOPES = ("global", "layer", "erk", "lamp")

Masks = dict[str, Tensor]
"""Where weights stay, by name: bool, of the weight's shape."""


class Choice(Protocol):
    """Chooses the weights that go."""

    @property
    def scope(self) -> str | None:
        """Who competes, None where that has no meaning."""
        ...

    def __call__(self, scores: Mapping[str, Tensor], kept: Masks, fraction: float) -> Masks:
        """Returns the masks after a fraction of the way."""
        ...

    def check(self, scores: Mapping[str, Tensor], kept: Masks) -> None:
        """Refuses what could have no effect, or cannot be."""
        ...


@dataclass(frozen=True)
class SparsityChoice:
    """Chooses what goes for a fraction of all weights.

    Attributes:
        selection: The weights that the sparsity counts.
        target: The fraction that goes.
        scope: `global`, `layer`, `erk` or `lamp`.
        pattern: Which weights go together; not n:m.
    """

    selection: Selection
    target: Target
    scope: str
    pattern: Block | None = None

    def __post_init__(self) -> None:
        check_scope(self.scope)

    def __call__(self, scores: Mapping[str, Tensor], kept: Masks, fraction: float) -> Masks:
        """Returns the masks after a fraction of the way to the target.

        What is gone stays gone. At least one unit of each layer stays.

        Args:
            scores: One score a weight, by name; the lowest go first.
            kept: The masks so far: of every free weight, and of others that hold zeros.
            fraction: How far to be, above 0.

        Raises:
            TargetUnreachable: More would have to go than may.
        """
        free = self.selection.free
        needed = self._needed(kept, fraction)
        units = [_Units(w, scores[w.name], kept[w.name], self.pattern) for w in free]
        if self.scope in ("global", "lamp"):
            chosen = self._together(units, needed)
        else:
            chosen = self._apart(units, needed)
        gone = zip(units, chosen, strict=True)
        return {**kept, **{unit.weight.name: unit.without(chosen) for unit, chosen in gone}}

    def check(self, scores: Mapping[str, Tensor], kept: Masks) -> None:
        """Refuses a target that cannot be reached.

        Raises:
            TargetUnreachable: More would have to go than may.
        """
        self._needed(kept, 1.0)

    def _needed(self, kept: Masks, fraction: float) -> int:
        """Returns how many of the free weights must be zero after a fraction of the way."""
        free = self.selection.free
        names = {weight.name for weight in free}
        held = sum(int((~mask).sum()) for name, mask in kept.items() if name not in names)
        most = sum(weight.parameter.numel() - size_of(self.pattern) for weight in free)
        return zeros_for(self.selection, self.target.partway(fraction, 1), most, held)

    def _together(self, units: Sequence["_Units"], needed: int) -> list[Tensor]:
        """Returns what goes where all layers compete."""
        scores = [lamp(u.scores, u.gone) if self.scope == "lamp" else u.scores for u in units]
        protected = [_with_best_kept(s, u.gone) for s, u in zip(scores, units, strict=True)]
        everything = torch.cat([scores.to(protected[0].device) for scores in protected])
        if self.pattern is None:
            chosen = lowest(everything, needed)
        else:
            gains = torch.cat([unit.gains.to(everything.device) for unit in units])
            done = sum(unit.dropped for unit in units)
            chosen = lowest_worth(everything, gains, needed - done)
        return list(chosen.split([unit.scores.numel() for unit in units]))

    def _apart(self, units: Sequence["_Units"], needed: int) -> list[Tensor]:
        """Returns what goes where each layer has a density of its own."""
        sizes = np.array([unit.size for unit in units], np.float64)
        shapes = [unit.weight.parameter.shape for unit in units]
        raw = np.array([erdos_renyi_kernel(s) if self.scope == "erk" else 1.0 for s in shapes])
        least = size_of(self.pattern) / sizes
        most = 1 - np.array([unit.dropped for unit in units]) / sizes
        kept = densities(sizes, raw, least, np.maximum(most, least), sizes.sum() - needed)
        counts = [math.floor(n * d + 1e-6) for n, d in zip(sizes, kept, strict=True)]
        chosen = []
        for unit, count in zip(units, counts, strict=True):
            scores = _with_best_kept(unit.scores, unit.gone)
            gone = unit.size - count
            chosen.append(
                lowest(scores, gone)
                if self.pattern is None
                else lowest_worth(scores, unit.gains, gone - unit.dropped)
            )
        return chosen


@dataclass(frozen=True)
class NMChoice:
    """Chooses what goes so that `n` of `m` stay in each group; on the way there, a part of it.

    Attributes:
        selection: The weights that may go.
        pattern: How many of how many stay.
    """

    selection: Selection
    pattern: NM

    @property
    def scope(self) -> None:
        """None: no weights compete."""

    def __call__(self, scores: Mapping[str, Tensor], kept: Masks, fraction: float) -> Masks:
        """Returns the masks after a fraction of the way; see `SparsityChoice`."""
        masks = dict(kept)
        for weight in self.selection.free:
            ranked = scores[weight.name].masked_fill(~kept[weight.name], -torch.inf)
            last = candidates(weight, ranked, self.pattern)
            count = math.ceil(fraction * int(last.sum()) - 1e-6)
            gone = lowest(ranked.masked_fill(~last, torch.inf).flatten(), count)
            masks[weight.name] = kept[weight.name] & ~gone.reshape(last.shape)
        return masks

    def check(self, scores: Mapping[str, Tensor], kept: Masks) -> None:
        """Does nothing: the pattern can always be met."""


class _Units:
    """The units of one weight.

    Attributes:
        weight: The weight.
        pattern: Which of its weights go together.
        kept: Where it stays so far.
        gone: Which units are gone already.
        scores: One score a unit; the lowest for those that are gone.
    """

    def __init__(self, weight: Weight, scores: Tensor, kept: Tensor, pattern: Block | None) -> None:
        self.weight = weight
        self.pattern = pattern
        self.kept = kept
        self.gone = ~kept.flatten() if pattern is None else self.gains == 0
        self.scores = unit_scores(weight, scores, pattern).masked_fill(self.gone, -torch.inf)

    @cached_property
    def gains(self) -> Tensor:
        """How many weights go with each unit that are not gone already, int64."""
        share = unit_scores(self.weight, self.kept.double(), self.pattern)
        return (share * size_of(self.pattern)).round().long()

    @property
    def size(self) -> int:
        """How many weights there are."""
        return self.kept.numel()

    @cached_property
    def dropped(self) -> int:
        """How many weights are gone already."""
        return self.size - int(self.kept.sum())

    def without(self, chosen: Tensor) -> Tensor:
        """Returns the mask once some units are gone."""
        gone = spread(self.weight, chosen.to(self.kept.device), self.pattern)
        return self.kept & ~gone


def lamp(scores: Tensor, gone: Tensor) -> Tensor:
    """Returns the squared score of each unit over the sum of all at least as large in its layer.

    Lee et al. 2021, "Layer-adaptive Sparsity for the Magnitude-based Pruning".

    Args:
        scores: Magnitudes of one layer, (units,).
        gone: Which units are gone already; they stay the lowest.
    """
    order = scores.argsort(descending=True, stable=True)
    squares = scores.masked_fill(gone, 0)[order].double().square()
    ranked = (squares / squares.cumsum(0)).nan_to_num(0)
    result = torch.empty_like(ranked)
    result[order] = ranked
    return result.masked_fill(gone, -torch.inf)


def size_of(pattern: Block | None) -> int:
    """Returns how many weights go together."""
    return 1 if pattern is None else pattern.outputs * pattern.inputs


def check_scope(scope: str) -> None:
    """Refuses what is no scope.

    Raises:
        CompressError: The nearest are named.
    """
    if scope not in SCOPES:
        raise CompressError(
            f"{scope!r} is not a scope", where="scope", hint=did_you_mean(str(scope), SCOPES)
        )


def _with_best_kept(scores: Tensor, gone: Tensor) -> Tensor:
    """Returns the scores of a layer, the highest made infinite so that it never goes."""
    best = scores.masked_fill(gone, -torch.inf).argmax()
    protected = scores.clone()
    protected[best] = torch.inf
    return protected

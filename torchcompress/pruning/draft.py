"""A cut in the making: from units of groups to slices of tensors."""

from collections import defaultdict
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from typing import Any, Self

import numpy as np
from torch import Tensor, nn

from torchcompress.core.errors import ExtensionError
from torchcompress.core.target import Target
from torchcompress.graph.events import Contraction, Selection
from torchcompress.graph.groups import Group
from torchcompress.graph.links import coupling_operations
from torchcompress.graph.macs import RemainingCost
from torchcompress.graph.record import Trace
from torchcompress.pruning.budget import Removed
from torchcompress.pruning.group_cut import GroupCut
from torchcompress.pruning.mends import Remaining, mended
from torchcompress.pruning.plan import PruningPlan
from torchcompress.pruning.proof import Cut, Proof, Trial
from torchcompress.pruning.surgery import Removal, cut


@dataclass(frozen=True)
class Draft:
    """A cut that is not yet proved.

    Attributes:
        model: The model to cut.
        tensors: Its parameters and buffers by name.
        seen: What its traced run has shown.
        groups: Its coupled groups.
        removed: The units that go of each group.
    """

    model: nn.Module
    tensors: dict[str, Tensor]
    seen: Trace
    groups: list[Group]
    removed: Removed

    def only(self, names: list[str]) -> Self:
        """Returns the cut of these groups alone."""
        return replace(self, removed={name: self.removed[name] for name in names})

    def labels(self) -> np.ndarray:
        """Returns the representative labels that go."""
        gone = [g.labels[self.removed[g.name]] for g in self.groups if g.name in self.removed]
        return np.concatenate(gone) if gone else np.zeros(0, np.int64)

    def misfit(self, proof: Proof) -> str | None:
        """Returns how the cut model fails to run or gives outputs of other shapes, or None."""
        try:
            return proof.misfit(self._cut())
        except ExtensionError as error:
            return error.what

    def trial(self, proof: Proof) -> Trial:
        """Compares the cut model with the original whose channels are zeroed at every consumer."""
        try:
            return proof.trial(set(self.labels().tolist()), self._cut())
        except ExtensionError as error:
            return Trial(float("nan"), error.what, frozenset())

    def _cut(self) -> Cut:
        removal = self.removal()
        return partial(cut, removal=removal, mends=self.mends(removal))

    def removal(self) -> Removal:
        """Returns the indices that go from each dimension of each tensor."""
        gone: dict[str, dict[int, list[np.ndarray]]] = {}
        for group in self.groups:
            if group.name in self.removed:
                for (name, dim), indices in group.members.items():
                    taken = indices[self.removed[group.name]].ravel()
                    gone.setdefault(name, {}).setdefault(dim, []).append(taken)
        return {
            name: {
                dim: np.sort(np.concatenate(gone[name][dim])).tolist() for dim in sorted(gone[name])
            }
            for name in self.tensors
            if name in gone
        }

    def mends(self, removal: Removal) -> dict[str, dict[str, Any]]:
        """Returns the attributes that the cut changes, by module path."""
        groups, inputs = self._groups_left(), self._inputs_left()
        shapes = self._shapes_left(removal)
        names = {id(tensor): name for name, tensor in self.tensors.items()}
        cut_here = {*groups, *inputs}
        inner: dict[str, dict[str, tuple[int, ...]]] = defaultdict(dict)
        tensors = (
            *self.model.named_parameters(remove_duplicate=False),
            *self.model.named_buffers(remove_duplicate=False),
        )
        paths: dict[str, list[str]] = {}
        for name, tensor in tensors:
            own, holder = names[id(tensor)], name.rpartition(".")[0]
            if holder not in paths:
                paths[holder] = ["", *accumulate(holder.split("."), "{}.{}".format)]
            for path in paths[holder]:
                inner[path][name[len(path) :].removeprefix(".")] = shapes[own]
            if own in removal:
                cut_here.update(paths[holder])
        changed = {}
        for path, module in self.model.named_modules():
            if path in cut_here:
                remaining = Remaining(inner[path], inputs.get(path, ()), groups.get(path))
                attributes = mended(module, remaining)
                if attributes:
                    changed[path] = attributes
        return changed

    def _shapes_left(self, removal: Removal) -> dict[str, tuple[int, ...]]:
        return {
            name: tuple(
                size - len(removal.get(name, {}).get(dim, ()))
                for dim, size in enumerate(tensor.shape)
            )
            for name, tensor in self.tensors.items()
        }

    def _groups_left(self) -> dict[str, int]:
        gone = self.seen.couplings.among(self.labels())
        left = {}
        runs = [self.seen] if self.seen.training is None else [self.seen, self.seen.training]
        for event in (event for run in runs for event in run.events):
            if event.groups is not None:
                groups = event.groups
                if isinstance(event, Contraction) and event.weight is None:
                    # Heads, which a batch of matrix products repeats.
                    groups = np.unique(groups[groups > 0])
                kept = int((~gone(groups)).sum())
                if kept < groups.size:
                    left[self._counts_groups(event)] = kept
        return left

    def _counts_groups(self, event: Contraction | Selection) -> str:
        """Returns the path of the module that repeats the number of groups or heads of an event.

        A weight that several layers share belongs to the one that runs.
        """
        if isinstance(event, Selection) or event.weight is None:
            return event.module
        weight = self.tensors.get(event.weight)
        own = self.model.get_submodule(event.module).parameters(recurse=False)
        if any(tensor is weight for tensor in own):
            return event.module
        return event.weight.rpartition(".")[0]

    def _inputs_left(self) -> dict[str, tuple[int, ...]]:
        """Returns the new shapes of the inputs that lose something, by module path."""
        gone = self.seen.couplings.among(self.labels())
        left = {}
        for path, call in self.seen.calls.items():
            shape = tuple(
                size if vector is None else size - int(np.count_nonzero(gone(vector)))
                for size, vector in zip(call.shape, call.labels.dims, strict=True)
            )
            if shape != call.shape:
                left[path] = shape
        return left

    def plan(
        self, target: Target | str, cost: RemainingCost, trial: Trial | None = None
    ) -> PruningPlan:
        """Returns the cut as plain data."""
        nothing, gone = np.zeros(0, np.int64), self.labels()
        removal = self.removal()
        coupled = coupling_operations(self.seen, self.groups)
        cuts = [
            GroupCut.of(group, group.units - len(self.removed.get(group.name, ())), operations)
            for group, operations in zip(self.groups, coupled, strict=True)
        ]
        every = [g.labels for g in self.groups if g.frozen is None]
        whole = cost.params(nothing)
        alive = trial.alive if trial else frozenset[int]()
        untested = [
            g.name
            for g in self.groups
            if trial and g.name in self.removed
            if alive.isdisjoint(g.labels[self.removed[g.name]].tolist())
        ]
        return PruningPlan(
            target=str(target),
            groups=tuple(cuts),
            removed=removal,
            mends=self.mends(removal),
            shapes={name: tuple(self.tensors[name].shape) for name in removal},
            macs=(cost.macs(nothing), cost.macs(gone)),
            params=(whole, cost.params(gone)),
            frozen_share=cost.params(np.concatenate(every) if every else nothing) / max(whole, 1),
            inexact={
                g.name: g.inexact for g in self.groups if g.inexact and g.name in self.removed
            },
            untested=tuple(untested),
            difference=trial.difference if trial else None,
            parameters=tuple(n for n, _ in self.model.named_parameters(remove_duplicate=False)),
        )

"""Groups that a model's code makes equally long, tied so that they lose the same indices."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from torchcompress.core.inputs import Inputs
from torchcompress.graph.groups import Group, Member
from torchcompress.graph.record import Trace
from torchcompress.pruning.draft import Draft
from torchcompress.pruning.proof import Proof

Tie = list[Member]
"""Dimensions of one length that are coupled index by index."""

C = TypeVar("C")

Retie = Callable[[Sequence[Tie]], Iterator[tuple[Draft, C]]]
"""Yields the model's groups under some ties, and how units of them are chosen."""


def equal_widths(draft: Draft, failed: Collection[str], proof: Proof) -> list[Tie]:
    """Returns the ties that may mend groups which fail their trials.

    An attention that reshapes its result to the width of its input, as in
    `B, N, C = x.shape; ... .reshape(B, N, C)`, can lose channels only together with that input,
    and neither passes a trial alone. Groups that fail and are equally long are tied.

    Args:
        draft: The groups and what was removed from some.
        failed: The names of those that fail; the others that lost units pass.
        proof: The trials of the model, for groups that have not lost any.
    """
    whole = {group.name: _whole_dimensions(draft, group) for group in draft.groups}
    widths = {min(whole[name]) for name in failed if whole[name]}
    found: dict[int, Tie] = defaultdict(list)
    for group in draft.groups:
        width = min(whole[group.name], default=0)
        untried = group.frozen is None and group.name not in draft.removed
        if width in widths and (
            group.name in failed or (untried and _without_one(draft, group).misfit(proof))
        ):
            found[width].append(whole[group.name][width])
    return [tie for tie in found.values() if len(tie) > 1]


def _whole_dimensions(draft: Draft, group: Group) -> dict[int, Member]:
    """Returns a dimension of each length of which all indices are of this group."""
    whole: dict[int, Member] = {}
    for (name, dim), indices in group.members.items():
        if indices.size == draft.tensors[name].shape[dim]:
            whole.setdefault(indices.size, (name, dim))
    return whole


def _without_one(draft: Draft, group: Group) -> Draft:
    return replace(draft, removed={group.name: np.array([0])})


def couple_ties(seen: Trace, ties: Iterable[Tie]) -> None:
    """Couples the dimensions of each tie.

    Args:
        seen: What a run has shown.
        ties: Names of tensors with a dimension of each.
    """
    seen.couplings.operation = "tie"
    for tie in ties:
        first, *others = (seen.tensors[name].dims[dim] for name, dim in tie)
        for other in others:
            seen.couplings.couple(first, other, "is tied to an index of fixed size")


def find_tied(
    ties: Sequence[Tie], more: Sequence[Tie], retie: Retie[C], x: Inputs
) -> tuple[Draft, C] | None:
    """Returns the first draft under more ties in which a group of theirs can lose a unit, or None.

    Args:
        ties: Ties that hold already.
        more: Ties to be tried.
        retie: What ties make of the model: one draft for each part of an attention that may go,
            since the code decides which one fits.
        x: Example inputs of the trial.
    """
    added = {member for tie in more for member in tie}
    for draft, choose in retie([*ties, *more]) if more else ():
        proof = Proof(draft.model, x, draft.seen)
        for group in draft.groups:
            if group.frozen is None and not added.isdisjoint(group.members):
                alone = _without_one(draft, group)
                if alone.misfit(proof) is None and alone.trial(proof).failure is None:
                    return draft, choose
    return None

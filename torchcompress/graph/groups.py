"""Coupled groups: the channels of a trace, gathered by the tensors that they live in."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from torchcompress.graph.labels import Vector
from torchcompress.graph.tracer import Trace

Member = tuple[str, int]
"""A dimension of a parameter or buffer: its name and the dimension."""


Signature = tuple[tuple[Member, int], ...]
"""The members of a unit, each with how many of its indices the unit takes."""


@dataclass(frozen=True)
class Group:
    """Channels that live in the same dimensions of the same tensors.

    One unit is what can be removed at once: a channel, a group of a grouped convolution, or the
    same offset of every group.

    Attributes:
        name: Path of the first layer that makes these channels.
        members: For each dimension of a tensor the indices of each unit, of shape (units, k).
        labels: The representative label of each unit.
        producers: Paths of the layers that make these channels.
        width: Channels that one unit takes from the first of them.
        frozen: Why no unit may be removed, or None.
        inexact: Why removing a unit differs from zeroing it, or None.
    """

    name: str
    members: dict[Member, Vector]
    labels: Vector
    producers: tuple[str, ...]
    width: int
    frozen: str | None
    inexact: str | None = None

    @property
    def units(self) -> int:
        """How many units there are."""
        return len(self.labels)

    @property
    def layers(self) -> list[str]:
        """Paths of the modules that hold a member, in the model's order."""
        return list(dict.fromkeys(name.rpartition(".")[0] for name, _ in self.members))


def channel_groups(trace: Trace) -> list[Group]:
    """Returns the coupled groups of a traced model, in the model's order.

    Args:
        trace: What one run has shown.
    """
    places: dict[int, dict[Member, list[int]]] = defaultdict(lambda: defaultdict(list))
    couplings = trace.couplings
    for name, labels in trace.tensors.items():
        for dim, vector in enumerate(labels.dims):
            if vector is None or couplings.ignored(int(vector[0])):
                continue
            for index, root in enumerate(couplings.roots(vector).tolist()):
                places[root][name, dim].append(index)
    gathered: dict[tuple[Signature, str | None], list[int]] = defaultdict(list)
    for root, place in places.items():
        signature = tuple((member, len(indices)) for member, indices in place.items())
        gathered[signature, couplings.reason(root)].append(root)
    produced = _producers(trace)
    taken: dict[str, int] = defaultdict(int)
    groups = []
    for (signature, frozen), roots in gathered.items():
        members = {
            member: np.array([places[root][member] for root in roots]) for member, _ in signature
        }
        producers = produced.get(roots[0], {})
        first = next(iter(members))
        name = next(iter(producers), f"{first[0]}[{first[1]}]")
        taken[name] += 1
        if frozen is None and len(roots) == 1:
            frozen = "all its channels only go together"
        groups.append(
            Group(
                name if taken[name] == 1 else f"{name}#{taken[name]}",
                members,
                np.array(roots),
                tuple(producers),
                next(iter(producers.values()), members[first].shape[1]),
                frozen,
                next(filter(None, map(couplings.inexact, roots)), None),
            )
        )
    return groups


def _producers(trace: Trace) -> dict[int, dict[str, int]]:
    """Returns for each label the layers that make it, with how many of their channels it is."""
    produced: dict[int, dict[str, int]] = defaultdict(dict)
    once = {event.weight: event for event in reversed(trace.contractions)}
    for event in reversed(once.values()):
        if event.weight is not None and event.produced is not None:
            layer = event.layer or event.weight
            for root in trace.couplings.roots(event.produced).tolist():
                produced[root][layer] = produced[root].get(layer, 0) + 1
    return produced

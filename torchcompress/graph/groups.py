"""Coupled groups: the channels of a trace, gathered by the tensors that they live in."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from torchcompress.graph.labels import Vector
from torchcompress.graph.record import Trace

Member = tuple[str, int]
"""A dimension of a parameter or buffer: its name and the dimension."""


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
    places = _Places(trace)
    alike = places.alike()
    first_labels = places.labels[[units[0] for units in alike]]
    producers, reasons = _producers(trace, first_labels), trace.couplings.reasons(first_labels)
    taken: dict[str, int] = defaultdict(int)
    groups = []
    for units, frozen, made in zip(alike, reasons, producers, strict=True):
        members = places.members(units)
        first = next(iter(members))
        name = next(iter(made), f"{first[0]}[{first[1]}]")
        taken[name] += 1
        if frozen is None and len(units) == 1:
            frozen = "all its channels only go together"
        groups.append(
            Group(
                name if taken[name] == 1 else f"{name}#{taken[name]}",
                members,
                places.labels[units],
                tuple(made),
                next(iter(made.values()), members[first].shape[1]),
                frozen,
                trace.couplings.first_inexact(places.labels[units]),
            )
        )
    return groups


class _Places:
    """Where each unit lives: the indices of every dimension that carry its labels.

    Attributes:
        labels: The representative label of each unit, in the order of their first places.
    """

    def __init__(self, trace: Trace) -> None:
        couplings = trace.couplings
        self._members: list[Member] = []
        roots: list[Vector] = []
        for name, labels in trace.tensors.items():
            for dim, vector in enumerate(labels.dims):
                if vector is not None and not couplings.ignored(int(vector[0])):
                    self._members.append((name, dim))
                    roots.append(couplings.roots(vector))
        sizes = [vector.size for vector in roots]
        every = np.concatenate(roots) if roots else np.zeros(0, np.int64)
        first = np.zeros(1 + int(every.max(initial=0)), np.int64)
        first[every[::-1]] = np.arange(every.size)[::-1]  # Of equal ones the last write counts.
        is_first = first[every] == np.arange(every.size)
        self.labels: Vector = every[is_first]
        self._reason = couplings.reason_codes(self.labels)
        # One row for each index of each member, sorted by unit, member and index.
        units = (np.cumsum(is_first) - 1)[first[every]]
        narrow = units.astype(np.min_scalar_type(units.max(initial=0)))  # Sorted by radix.
        rows = np.argsort(narrow, kind="stable")
        units, members = units[rows], np.repeat(np.arange(len(sizes)), sizes)[rows]
        self._index = np.concatenate([np.arange(n) for n in sizes] or [every])[rows]
        # One pair for each member of each unit, with where its rows start.
        new = (np.diff(units, prepend=-1) != 0) | (np.diff(members, prepend=-1) != 0)
        self._start = np.flatnonzero(new)
        self._member = members[self._start]
        self._count = np.diff(self._start, append=every.size)
        self._pair = np.searchsorted(units[self._start], np.arange(self.labels.size + 1))

    def alike(self) -> list[Vector]:
        """Returns the units that are frozen alike and live alike: in as many indices of the same.

        Each of these lists is in the order of the units, and they are in that of their first ones.
        """
        sizes = np.diff(self._pair)
        if not sizes.size:
            return []
        # Neighbors are alike where each pair of the one equals that of the other.
        other = np.minimum(
            np.arange(self._start.size) + np.repeat(sizes, sizes), self._start.size - 1
        )
        equal = (self._member == self._member[other]) & (self._count == self._count[other])
        goes_on = np.logical_and.reduceat(equal, self._pair[:-1])[:-1]
        goes_on &= (np.diff(sizes) == 0) & (np.diff(self._reason) == 0)
        runs = np.split(np.arange(sizes.size), np.flatnonzero(~goes_on) + 1)
        gathered: dict[tuple[int, bytes, bytes], list[Vector]] = defaultdict(list)
        for run in runs:
            pairs = slice(self._pair[run[0]], self._pair[run[0] + 1])
            members, counts = self._member[pairs].tobytes(), self._count[pairs].tobytes()
            gathered[int(self._reason[run[0]]), members, counts].append(run)
        return [np.concatenate(runs) for runs in gathered.values()]

    def members(self, units: Vector) -> dict[Member, Vector]:
        """Returns the members of units with one signature, each with the indices of every unit."""
        begin, end = self._pair[units[0]], self._pair[units[0] + 1]
        return {
            self._members[self._member[begin + offset]]: self._index[
                self._start[self._pair[units] + offset][:, None]
                + np.arange(int(self._count[begin + offset]))
            ]
            for offset in range(end - begin)
        }


def _producers(trace: Trace, labels: Vector) -> list[dict[str, int]]:
    """Returns for each label the layers that make it, with how many of their channels it is."""
    position = np.full(1 + int(labels.max(initial=0)), labels.size)
    position[labels] = np.arange(labels.size)
    produced: list[dict[str, int]] = [{} for _ in labels]
    once = {event.weight: event for event in reversed(trace.contractions)}
    for event in reversed(once.values()):
        if event.weight is not None and event.produced is not None:
            layer = event.layer or event.weight
            roots = trace.couplings.roots(event.produced)
            counts = np.bincount(position[roots[roots < position.size]], minlength=labels.size)
            for unit in np.flatnonzero(counts[: labels.size]).tolist():
                made = produced[unit]
                made[layer] = made.get(layer, 0) + int(counts[unit])
    return produced

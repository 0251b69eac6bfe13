"""Which units of which groups are dead: nothing that remains notices that they are gone."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from torchcompress.graph.groups import Group
from torchcompress.pruning.budget import Removed
from torchcompress.pruning.dead_channels.reads import Read

Blocked = Callable[[Read, np.ndarray], np.ndarray]
"""Returns which inputs of a read must stay, where some of its outputs count."""


@dataclass(frozen=True)
class Dead:
    """What can go.

    Attributes:
        removed: The units that go of each group.
        notes: What of the dead channels of a group stays and why, or where their constants go.
        moved: What is added to each bias and running mean, of the model before the cut.
    """

    removed: Removed
    notes: dict[str, str]
    moved: dict[str, np.ndarray]


def find_dead(groups: Sequence[Group], reads: Sequence[Read]) -> Dead:
    """Finds the units whose removal changes no output.

    A unit is *unheard* where every weight that reads it is zero, or leads to an unheard one. It is
    *dead* where everything that hears it reads zeros, or a constant that can be moved into a bias.
    A layer keeps at least one.

    Args:
        groups: The coupled groups.
        reads: What the run reads.
    """
    size = 1 + max((int(v.max(initial=0)) for v in _vectors(groups, reads)), default=0)
    free = np.zeros(size, bool)
    for group in groups:
        free[group.labels] = group.frozen is None and group.inexact is None
    unheard = _settle(free, free & False, reads, Read.read_by)
    dead = _settle(free, unheard, reads, Read.needed_by)
    kept_last: set[str] = set()
    for group in groups:
        if dead[group.labels].all():
            last = group.labels[np.argmax(unheard[group.labels])]
            free[last] = False
            kept_last.add(group.name)
    dead = _settle(free, unheard, reads, Read.needed_by)
    removed = {
        group.name: np.flatnonzero(dead[group.labels])
        for group in groups
        if dead[group.labels].any()
    }
    moved, into = _moved(dead, unheard, reads)
    notes = {}
    for group in groups:
        parts = _stays(group, dead, reads, group.name in kept_last)
        sinks = sorted({sink for label in group.labels[dead[group.labels]] for sink in into[label]})
        if sinks:
            more = f" and {len(sinks) - 3} more" if len(sinks) > 3 else ""
            parts.append(f"constants move into {', '.join(sinks[:3])}{more}")
        if parts:
            notes[group.name] = "; ".join(parts)
    return Dead(removed, notes, moved)


def _vectors(groups: Sequence[Group], reads: Sequence[Read]) -> list[np.ndarray]:
    produced = [read.produced for read in reads if read.produced is not None]
    return [*(group.labels for group in groups), *(read.labels for read in reads), *produced]


def _settle(
    free: np.ndarray, unheard: np.ndarray, reads: Sequence[Read], blocked: Blocked
) -> np.ndarray:
    """Returns the most labels that may go together: what one needs, another may let go."""
    gone = free.copy()
    while True:
        stays = np.zeros_like(gone)
        for read in reads:
            stays[read.labels[blocked(read, read.heard(gone | unheard))]] = True
        if not (gone & stays).any():
            return gone
        gone &= ~stays


def _moved(
    dead: np.ndarray, unheard: np.ndarray, reads: Sequence[Read]
) -> tuple[dict[str, np.ndarray], dict[int, set[str]]]:
    """Returns what is added to each sink, and the sinks of each label."""
    moved: dict[str, np.ndarray] = {}
    into: dict[int, set[str]] = defaultdict(set)
    for read in reads:
        if read.sink is None or read.wiring is None:
            continue
        heard = read.heard(dead | unheard)
        taken = dead[read.labels] & read.read_by(heard) & (read.values != 0)
        if taken.any():
            added = read.wiring.added(np.where(taken, read.values, 0.0))
            moved[read.sink.name] = read.sink.sign * np.where(heard, added, 0.0)
            for label in read.labels[taken].tolist():
                into[label].add(read.sink.name)
    return moved, into


def _stays(group: Group, dead: np.ndarray, reads: Sequence[Read], last: bool) -> list[str]:
    """Returns why constant channels of a group stay."""
    constant = _constant(group, reads) & ~dead[group.labels]
    count = int(constant.sum())
    if last:
        return ["all channels are dead: one stays, as a layer needs one"]
    if not count:
        return []
    reason = group.inexact if group.frozen is None else "the group is frozen"
    if reason is None:
        reason = next(
            read.why(label)
            for label in group.labels[constant].tolist()
            for read in reads
            if label in read.labels[read.needed_by(read.heard(dead))]
        )
    return [f"{count} dead {'channels stay' if count > 1 else 'channel stays'}: {reason}"]


def _constant(group: Group, reads: Sequence[Read]) -> np.ndarray:
    """Returns which units of a group no operation reads as anything but constants."""
    read_at_all, alive = set[int](), set[int]()
    for read in reads:
        read_at_all.update(read.labels.tolist())
        alive.update(read.labels[read.depends].tolist())
    return np.array([u in read_at_all and u not in alive for u in group.labels.tolist()])

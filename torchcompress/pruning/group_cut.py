"""What a plan does to one coupled group, as plain data that can be read."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from torchcompress.graph.groups import Group, Member


@dataclass(frozen=True)
class GroupCut:
    """What a plan does to one coupled group.

    Attributes:
        name: Path of the first layer that makes the channels.
        channels: Channels of the first layer before.
        kept: Channels of the first layer after.
        frozen: Why none may go, or None.
        units: How many parts can go one by one.
        unit: What one such part is.
        members: How many indices of each dimension of a tensor, such as `conv.weight[0]`, are of
            this group.
        coupled: The operations that coupled these dimensions, each with those that it coupled.
    """

    name: str
    channels: int
    kept: int
    frozen: str | None
    units: int
    unit: str
    members: dict[str, int]
    coupled: dict[str, tuple[str, ...]]

    @classmethod
    def of(cls, group: Group, kept: int, coupled: dict[str, list[Member]]) -> Self:
        """Returns the plain data of a group.

        Args:
            group: The group.
            kept: How many of its units stay.
            coupled: The operations that coupled it.
        """
        return cls(
            name=group.name,
            channels=group.units * group.width,
            kept=kept * group.width,
            frozen=group.frozen,
            units=group.units,
            unit=_unit(group),
            members={_place(member): where.size for member, where in group.members.items()},
            coupled={op: tuple(map(_place, places)) for op, places in coupled.items()},
        )

    @property
    def layers(self) -> list[str]:
        """Paths of all modules that hold a slice of the channels."""
        return list(dict.fromkeys(place.rpartition(".")[0] for place in self.members))

    def to_json(self) -> dict[str, Any]:
        """Returns the group as JSON values."""
        coupled = {operation: list(places) for operation, places in self.coupled.items()}
        return {**self.__dict__, "coupled": coupled}


def _place(member: Member) -> str:
    return f"{member[0]}[{member[1]}]"


def _unit(group: Group) -> str:
    """Returns in words what goes at once, as the first layer numbers it."""
    rows = next((w for w in group.members.values() if w.shape[1] == group.width), None)
    if group.width == 1 or rows is None:
        return "a channel"
    indices = np.sort(rows[0])
    runs = np.split(indices, np.flatnonzero(np.diff(indices) > 1) + 1)
    count, length = len(runs), len(runs[0])
    if any(len(run) != length for run in runs):
        return f"{group.width} channels that only go together"
    if count == 1:
        return f"{length} neighboring channels: a whole group, head or block"
    if length == 1:
        return f"{count} channels: the same offset in each of {count} groups, heads or parts"
    return f"{count} blocks of {length} neighboring channels, such as a head's query, key and value"

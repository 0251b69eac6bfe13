"""What must remain of each group."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from torchcompress.core.errors import CompressError
from torchcompress.graph.groups import Group


@dataclass(frozen=True)
class Floors:
    """What must remain of each group.

    Attributes:
        round_to: A layer keeps a multiple of this many channels, rounded down; one that keeps
            fewer than that is left alone.
        min_channels: A layer keeps at least this many channels.
        max_removed: A layer loses at most this fraction of its channels.
        yielding: `min_channels` and `max_removed` are met exactly, not rounded up.
        channels: How many channels groups had before earlier cuts, by name; fractions are of
            these.

    Raises:
        CompressError: A number out of range.
    """

    round_to: int = 8
    min_channels: int = 1
    max_removed: float = 1.0
    yielding: bool = False
    channels: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("round_to", "min_channels"):
            if getattr(self, name) < 1:
                raise CompressError(f"{getattr(self, name)} is below 1", where=name)
        if not 0 < self.max_removed <= 1:
            raise CompressError(
                f"{self.max_removed:g} is outside (0, 1]",
                where="max_removed",
                hint="it is the largest fraction of its channels that a layer loses",
            )

    def whole(self, group: Group) -> float:
        """Returns the units of a group before earlier cuts."""
        return self.channels.get(group.name, group.units * group.width) / group.width

    def removed(self, group: Group, wanted: int) -> int:
        """Returns how many units go where `wanted` would, after rounding."""
        if wanted <= 0:
            return 0
        step, least = self.step(group), self._least(group)
        kept = group.units - wanted
        kept -= kept % step if kept >= step else 0
        return group.units - max(kept, least)

    def fewer(self, group: Group, removed: int) -> int:
        """Returns the next smaller count of units that may go."""
        step = self.step(group)
        kept = group.units - removed
        more = kept + step - kept % step if kept >= step else kept + 1
        return group.units - min(more, group.units)

    def step(self, group: Group) -> int:
        """Returns how many units make a multiple of `round_to` channels."""
        return self.round_to // math.gcd(self.round_to, group.width)

    def rounded(self, group: Group, removed: int) -> bool:
        """Whether a group that loses so many units keeps a multiple of `round_to` channels."""
        return removed == 0 or (group.units - removed) % self.step(group) == 0

    def _least(self, group: Group) -> int:
        floor = max(1, self.min_channels / group.width, (1 - self.max_removed) * self.whole(group))
        least = min(group.units, math.ceil(floor - 1e-9))
        up = -(-least // self.step(group)) * self.step(group)
        return least if self.yielding or least < self.step(group) or up > group.units else up

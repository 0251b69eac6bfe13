"""Why a layer's channels go, stay, or only go together."""

import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torchcompress.core.errors import CompressError, did_you_mean
from torchcompress.pruning.group_cut import GroupCut


@dataclass(frozen=True)
class Explanation:
    """All that a plan knows of the channels of one layer, parameter or group; prints as text.

    Attributes:
        name: What was asked for.
        groups: The coupled groups that have a part of it.
        inexact: Why removing a group is not the same as zeroing it, by name of the group.
    """

    name: str
    groups: tuple[GroupCut, ...]
    inexact: dict[str, str]

    def __str__(self) -> str:
        """Returns a paragraph for each group."""
        return "\n\n".join(self._paragraph(group) for group in self.groups)

    def _paragraph(self, group: GroupCut) -> str:
        lines = [
            f"group {group.name}: {group.kept} of {group.channels} channels stay",
            f"  what can go: {group.units} units, each {group.unit}",
        ]
        if group.frozen:
            lines[1] = f"  frozen: {group.frozen}"
        if group.name in self.inexact:
            lines.append(f"  inexact: {self.inexact[group.name]}")
        lines.append("  the channels live in")
        width = max(map(len, group.members))
        lines += [f"    {place:{width}}  {count:6}" for place, count in group.members.items()]
        if group.coupled:
            lines.append("  coupled by")
        lines += [_wrapped(f"{op}: {', '.join(places)}") for op, places in group.coupled.items()]
        return "\n".join(lines)


def explain(name: str, groups: Iterable[GroupCut], inexact: Mapping[str, str]) -> Explanation:
    """Gathers what is known of a layer, a parameter or buffer, or a group.

    Args:
        name: A path, such as `layer1.0.conv1` or `layer1.0.conv1.weight`, or a group's name.
        groups: The groups of a plan.
        inexact: The inexact groups of a plan.

    Raises:
        CompressError: Nothing has this name.
    """
    groups = list(groups)
    named = [group for group in groups if group.name == name]
    touched = [group for group in groups if any(_holds(name, place) for place in group.members)]
    found = tuple(dict.fromkeys(group.name for group in (*named, *touched)))
    if not found:
        tensors = {_tensor(place) for group in groups for place in group.members}
        layers = {layer for group in groups for layer in group.layers}
        known = {group.name for group in groups} | layers | tensors
        raise CompressError(
            "no channels have this name",
            where=f"explain({name!r})",
            hint=did_you_mean(str(name), known),
        )
    by_name = {group.name: group for group in groups}
    return Explanation(
        name,
        tuple(by_name[group] for group in found),
        {group: reason for group, reason in inexact.items() if group in found},
    )


def _wrapped(text: str) -> str:
    return textwrap.fill(
        text, 100, initial_indent="    ", subsequent_indent="      ", break_long_words=False
    )


def _holds(name: str, place: str) -> bool:
    tensor = _tensor(place)
    return name in (tensor, tensor.rpartition(".")[0], place)


def _tensor(place: str) -> str:
    return place.rpartition("[")[0]

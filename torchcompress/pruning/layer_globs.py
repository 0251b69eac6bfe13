"""Globs over layers: which groups a user spares, and which have a ratio of their own."""

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from torchcompress.core.errors import CompressError, did_you_mean
from torchcompress.graph.groups import Group


def globs(patterns: Iterable[str], where: str) -> tuple[str, ...]:
    """Returns globs that were given in any iterable.

    Raises:
        CompressError: A single string, whose letters would be taken for globs; anything else that
            holds no strings.
    """
    if isinstance(patterns, str):
        raise CompressError(
            f"{patterns!r} is one string", where=where, hint=f"give a list: [{patterns!r}]"
        )
    found = tuple(patterns) if isinstance(patterns, Iterable) else (patterns,)
    if not all(isinstance(pattern, str) for pattern in found):
        raise CompressError(
            f"takes globs, not {patterns!r}", where=where, hint="give a list such as ['head']"
        )
    return found


def covers(pattern: str, name: str) -> bool:
    """Whether a glob matches a dotted name, or a module that holds what has the name."""
    parts = name.split(".")
    paths = (".".join(parts[: i + 1]) for i in range(len(parts)))
    return any(fnmatch.fnmatchcase(path, pattern) for path in paths)


def exclude_layers(groups: list[Group], patterns: Sequence[str]) -> list[Group]:
    """Returns the groups, those frozen that a matched layer makes channels of.

    Args:
        groups: Coupled groups.
        patterns: Globs over module paths; a module stands for all layers in it.

    Raises:
        CompressError: A glob that matches no layer which makes channels.
    """
    reasons: dict[str, str] = {}
    for pattern in patterns:
        for group, layer in _matched(groups, pattern, "exclude").items():
            reasons.setdefault(group, f"{layer} is excluded")
    return [
        replace(group, frozen=reasons[group.name])
        if group.name in reasons and not group.frozen
        else group
        for group in groups
    ]


def layer_ratios(groups: list[Group], ratios: Mapping[str, float]) -> dict[str, float]:
    """Returns the fraction kept of each group that has one of its own, by name.

    Where several globs match, the last one counts.

    Args:
        groups: Coupled groups.
        ratios: The fraction kept, in (0, 1], by glob over module paths.

    Raises:
        CompressError: A glob that matches no layer whose channels may go, or a fraction out of
            range.
    """
    found: dict[str, float] = {}
    frozen = {group.name: group.frozen for group in groups}
    for pattern, kept in ratios.items():
        where = f"ratios[{pattern!r}]"
        if not 0 < kept <= 1:
            raise CompressError(
                f"{kept:g} is outside (0, 1]", where=where, hint="it is the fraction that remains"
            )
        hit = _matched(groups, pattern, where)
        free = [name for name in hit if frozen[name] is None]
        if not free:
            name, layer = next(iter(hit.items()))
            raise CompressError(f"the channels of {layer} must stay: {frozen[name]}", where=where)
        found.update(dict.fromkeys(free, kept))
    return found


def _matched(groups: list[Group], pattern: str, where: str) -> dict[str, str]:
    """Returns the first matched layer of each group, by the group's name."""
    hit: dict[str, str] = {}
    for group in groups:
        for layer in group.producers:
            if covers(pattern, layer):
                hit.setdefault(group.name, layer)
    if not hit:
        raise CompressError(
            f"{pattern!r} matches nothing that makes channels",
            where=where,
            hint=did_you_mean(pattern, (layer for group in groups for layer in group.producers)),
        )
    return hit

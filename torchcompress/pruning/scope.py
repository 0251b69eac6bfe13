"""Which groups compete with each other for what remains."""

from collections import defaultdict
from collections.abc import Hashable

from torch import nn

from torchcompress.graph.groups import Group

SCOPES = ("global", "layer", "isomorphic")


def rivals(groups: list[Group], scope: str, model: nn.Module) -> list[list[int]]:
    """Returns the positions of the groups that compete with each other, class by class.

    `global`: all of them. `layer`: none, so that each loses the same fraction. `isomorphic`: those
    of the same structure, so that each kind of structure loses the same fraction (Fang et al.
    2024, "Isomorphic Pruning for Vision Models").

    Args:
        groups: Coupled groups.
        scope: `global`, `layer` or `isomorphic`.
        model: Where the modules of the groups live.
    """
    classes: dict[Hashable, list[int]] = defaultdict(list)
    for position, group in enumerate(groups):
        alone = position if scope == "layer" else None
        classes[structure(group, model) if scope == "isomorphic" else alone].append(position)
    return list(classes.values())


def structure(group: Group, model: nn.Module) -> tuple[tuple[str, str, int, bool], ...]:
    """Returns what makes two groups alike whatever their sizes.

    For each member, the class of its module, the name of the tensor in it, the dimension, and
    whether the units of the group are all that the dimension holds.

    Args:
        group: A coupled group.
        model: Where its modules live.
    """
    kinds = []
    for (name, dim), indices in group.members.items():
        path, _, leaf = name.rpartition(".")
        module = model.get_submodule(path)
        whole = indices.size == getattr(module, leaf).shape[dim]
        kinds.append((type(module).__name__, leaf, dim, whole))
    return tuple(sorted(kinds))

"""Two cuts, one after the other, as one."""

from collections.abc import Mapping
from dataclasses import replace

from torchcompress.core.errors import CompressError
from torchcompress.pruning.group_cut import GroupCut
from torchcompress.pruning.surgery import Removal

Shapes = Mapping[str, tuple[int, ...]]


def composed_removal(first: Removal, second: Removal, shapes: Shapes) -> Removal:
    """Returns what two cuts remove together, as the tensors are numbered before the first.

    Args:
        first: What goes first.
        second: What goes of what is left.
        shapes: Shapes of the tensors before the first cut, at least of those that are cut.
    """
    both: Removal = {}
    for name in dict.fromkeys((*first, *second)):
        dims = dict(first.get(name, {}))
        for dim, positions in second.get(name, {}).items():
            gone = set(dims.get(dim, ()))
            left = [index for index in range(shapes[name][dim]) if index not in gone]
            dims[dim] = sorted(gone.union(left[position] for position in positions))
        both[name] = {dim: dims[dim] for dim in sorted(dims)}
    return both


def composed_shapes(first: Removal, before: Shapes, between: Shapes) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the tensors that two cuts touch, before the first.

    Args:
        first: What the first cut removes.
        before: Shapes before it of the tensors that it cuts.
        between: Shapes after it of the tensors that the second cuts.

    Raises:
        CompressError: The first cut leaves another shape than the second was made for.
    """
    for name, expected in between.items():
        whole, gone = before.get(name, expected), first.get(name, {})
        left = tuple(size - len(gone.get(dim, ())) for dim, size in enumerate(whole))
        if left != expected:
            raise CompressError(
                f"the first plan leaves the shape {left}, the second was made for {expected}",
                where=name,
                hint="make the second plan on the model that the first one gives",
            )
    return {**between, **before}


def composed_groups(
    first: tuple[GroupCut, ...], second: tuple[GroupCut, ...]
) -> tuple[GroupCut, ...]:
    """Returns the groups of the first plan, each with what the second one leaves of it."""
    later = {group.name: group for group in second}
    return tuple(
        replace(group, kept=later[group.name].kept)
        if group.name in later and later[group.name].channels == group.kept
        else group
        for group in first
    )

"""Making the description of a network that fails as small as it can be."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from random_networks.network import Description, RandomNetwork, value_shapes
from random_networks.step import STEPS


def shrunk(description: Description, fails: Callable[[Description], bool]) -> Description:
    """Returns a smaller network that still fails.

    Args:
        description: A network that fails.
        fails: Whether a network fails in the same way.
    """
    smaller = True
    while smaller:
        smaller = False
        for candidate in _smaller(description):
            if _sound(candidate) and fails(candidate):
                description, smaller = candidate, True
                break
    return description


def _sound(description: Description) -> bool:
    try:
        RandomNetwork(description)
    except (RuntimeError, ValueError, AttributeError):
        return False
    return bool(description.nodes)


def _smaller(description: Description) -> Iterator[Description]:
    if description.ties:
        yield replace(description, ties=())
    if len(description.outputs) > 1:
        for output in description.outputs:
            yield replace(description, outputs=(output,))
        for output in description.outputs:
            rest = tuple(o for o in description.outputs if o != output)
            yield replace(description, outputs=rest)
    for index, node in enumerate(description.nodes):
        if node.shares is not None:
            nodes = list(description.nodes)
            nodes[index] = replace(node, shares=None)
            yield replace(description, nodes=tuple(nodes))
    shapes = value_shapes(description)
    first = len(description.inputs)
    for index, node in enumerate(description.nodes):
        results = STEPS[node.kind].results
        mine = range(first, first + results)
        used = [v for v in mine if _used(description, v)]
        if not used:
            yield _without(description, index, first, {})
        elif len({shapes[v] for v in used}) == 1:
            for other in range(first):
                if shapes[other] == shapes[used[0]]:
                    yield _without(description, index, first, dict.fromkeys(mine, other))
        first += results


def _used(description: Description, value: int) -> bool:
    return value in description.outputs or any(value in n.reads for n in description.nodes)


def _without(
    description: Description, index: int, first: int, instead: dict[int, int]
) -> Description:
    """Removes a node whose results are numbered from `first`; others read `instead`."""
    results = STEPS[description.nodes[index].kind].results

    def value(number: int) -> int:
        number = instead.get(number, number)
        return number - results if number >= first + results else number

    def position(number: int | None) -> int | None:
        if number is None or number == index:
            return None
        return number - 1 if number > index else number

    def name(parameter: str) -> str:
        head, _, rest = parameter.partition(".")
        if head != "steps":
            return parameter
        number, _, rest = rest.partition(".")
        return f"steps.{position(int(number))}.{rest}"

    nodes = tuple(
        replace(node, reads=tuple(map(value, node.reads)), shares=position(node.shares))
        for node in (*description.nodes[:index], *description.nodes[index + 1 :])
    )
    ties = tuple((name(one), name(other)) for one, other in description.ties)
    return replace(
        description, nodes=nodes, outputs=tuple(map(value, description.outputs)), ties=ties
    )

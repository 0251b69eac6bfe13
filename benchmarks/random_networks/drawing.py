"""Drawing networks that are valid by construction."""

import random
from collections.abc import Sequence
from itertools import product
from typing import Any

from random_networks.network import Description, Node, RandomNetwork, sample
from random_networks.step import RANKS, STEPS, Shape, Step
from torchcompress import Target

MOST_ELEMENTS = 4096
"""Of the values that one step reads, for two samples."""


def draw_case(rng: random.Random) -> tuple[Description, Target, dict[str, Any]]:
    """Draws a network, a target and more arguments of `plan_channels`."""
    description = describe(rng)
    target = Target(
        **{rng.choice(("channels", "macs", "params")): rng.choice((0.25, 0.5, 0.75, 0.9))}
    )
    options = {"round_to": rng.choice((1, 1, 2, 4, 8)), "scope": rng.choice(("global", "layer"))}
    return description, target, options


def describe(rng: random.Random, most_steps: int = 14) -> Description:
    """Draws a network.

    Args:
        rng: Where all choices come from.
        most_steps: How many steps it has at most, heads not counted.
    """
    inputs = tuple(
        rng.choice(("image", "image", "image", "tokens", "ids", "vector", "grey"))
        for _ in range(rng.choice((1, 1, 1, 2, 3)))
    )
    inputs = tuple(
        kind for i, kind in enumerate(inputs) if kind != "ids" or i == inputs.index("ids")
    )
    form = rng.choice(("tuple", "dict", "list"))
    growing = _Growing(Description(inputs, (), (), form, seed=rng.randrange(1000)), rng)
    growing.add_stems()
    for _ in range(rng.randint(1, most_steps)):
        growing.add_step()
    return growing.finished()


class _Growing:
    """A description that grows by steps which suit the values that it has so far."""

    def __init__(self, start: Description, rng: random.Random) -> None:
        self._start, self._rng = start, rng
        self._net = RandomNetwork(start)
        self._values = sample(start, self._net.embedding)
        self._nodes: list[Node] = []
        self._made: list[list[Shape]] = []
        self._read: set[int] = set()

    def add_stems(self) -> None:
        """Adds a layer with weights on most inputs, so that there is something to prune."""
        layers = {1: "linear_vector", 2: "linear_tokens", 3: "conv"}
        for index in range(len(self._values)):
            if self._rng.random() < 0.8:
                name = layers[self._values[index].dim() - 1]
                options = STEPS[name].draw(self._rng, self._shapes([index]))
                self._append(Node(name, (index,), options))

    def add_step(self) -> None:
        """Adds a step of a random kind to random values, recent ones most of the time."""
        choices = [
            (name, reads)
            for name, kind in STEPS.items()
            if (reads := self._operands(kind)) is not None
        ]
        weights = [STEPS[name].weight for name, _ in choices]
        name, reads = self._rng.choices(choices, weights)[0]
        shapes = self._shapes(reads)
        again = [
            index
            for index, node in enumerate(self._nodes)
            if node.kind == name and node.shares is None and self._made[index] == shapes
        ]
        if again and self._rng.random() < 0.3:
            node = Node(name, reads, self._nodes[again[0]].options, again[0])
        else:
            node = Node(name, reads, STEPS[name].draw(self._rng, shapes))
        self._append(node)

    def _append(self, node: Node) -> None:
        shapes = self._shapes(node.reads)
        made = self._net.extend(node, [self._values[i] for i in node.reads])
        self._nodes.append(node)
        self._made.append(shapes)
        self._read.update(node.reads)
        self._values += made

    def _shapes(self, reads: Sequence[int]) -> list[Shape]:
        return [tuple(self._values[i].shape[1:]) for i in reads]

    def _operands(self, kind: type[Step]) -> tuple[int, ...] | None:
        """Returns values that a step can read, or None."""
        ranks = [RANKS[name] for name in kind.reads]
        recent = range(max(0, len(self._values) - 5), len(self._values))
        pools = [[i for i in recent if self._values[i].dim() - 1 == rank] for rank in ranks]
        fitting = [
            reads
            for reads in product(*pools)
            if kind.fits(self._shapes(reads))
            and sum(self._values[i].numel() for i in reads) <= MOST_ELEMENTS
            and (len(reads) == 1 or reads[0] != reads[1] or self._rng.random() < 0.1)
        ]
        fresh = [reads for reads in fitting if not self._read.issuperset(reads)]
        return self._rng.choice(fresh or fitting) if fitting else None

    def finished(self) -> Description:
        """Returns the network with a head on most values that no step reads, and some ties."""
        outputs = []
        unread = [i for i in range(len(self._values)) if i not in self._read]
        for index in unread:
            if self._rng.random() < 0.1:
                outputs.append(index)
                continue
            while self._values[index].dim() > 2:
                name = "to_vector" if self._values[index].dim() == 4 else "pool_tokens"
                options = STEPS[name].draw(self._rng, self._shapes([index]))
                self._append(Node(name, (index,), options))
                index = len(self._values) - 1
            self._append(Node("linear_vector", (index,), {"out": 3, "bias": True}))
            outputs.append(len(self._values) - 1)
        start = self._start
        return Description(
            start.inputs, tuple(self._nodes), tuple(outputs), start.form, self._ties(), start.seed
        )

    def _ties(self) -> tuple[tuple[str, str], ...]:
        if self._rng.random() < 0.85:
            return ()
        by_shape: dict[Shape, list[str]] = {}
        for name, parameter in self._net.named_parameters():
            if parameter.dim() > 1:
                by_shape.setdefault(tuple(parameter.shape), []).append(name)
        pairs = [names for names in by_shape.values() if len(names) > 1]
        if not pairs:
            return ()
        one, other = self._rng.choice(pairs)[:2]
        return ((one, other),)

"""The table of steps that random networks are made of."""

import random
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from torch import nn

Shape = tuple[int, ...]
"""The shape of one sample: (C, H, W) of an image, (L, D) of tokens, (D,) of a vector."""

WIDTHS = (8, 12, 16)
"""Few, so that values often fit each other."""

RANKS = {"vector": 1, "tokens": 2, "image": 3}


class Step(nn.Module):
    """One step: reads values of known shapes and returns one value or a tuple of them.

    Attributes:
        reads: The kinds of the values that it reads.
        results: How many values it returns.
        weight: How often it is drawn, compared with others.
        fixed: Its code fixes positions of channels, so that only the trial can tell whether some
            may go.
        statistic: It reduces over channels without parameters of its own, so that an oracle that
            knows only which parameters lost what cannot tell what it kept.
    """

    reads: ClassVar[tuple[str, ...]]
    results: ClassVar[int] = 1
    weight: ClassVar[int] = 2
    fixed: bool = False
    statistic: ClassVar[bool] = False

    @staticmethod
    def draw(rng: random.Random, shapes: Sequence[Shape]) -> dict[str, Any]:
        """Returns options that suit values of these shapes."""
        return {}

    @staticmethod
    def fits(shapes: Sequence[Shape]) -> bool:
        """Whether the step can read values of these shapes, of the kinds that it reads."""
        return True


STEPS: dict[str, type[Step]] = {}


def step(name: str) -> Callable[[type[Step]], type[Step]]:
    """Registers a step; its constructor takes the shapes that it reads and its options."""

    def register(kind: type[Step]) -> type[Step]:
        STEPS[name] = kind
        return kind

    return register

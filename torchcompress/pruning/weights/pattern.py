"""Patterns: which weights of a layer go together."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from torchcompress.core.errors import CompressError, UnsupportedError
from torchcompress.core.target import Target
from torchcompress.pruning.weights.selection import Weight

_WHERE = "pattern"
_HINT = "give '2:4', another 'n:m', 'block:4x4', or None for single weights"


@dataclass(frozen=True)
class NM:
    """At most `n` of any `m` consecutive input channels keep their weight (Mishra et al., 2021).

    The `m` weights belong to one output channel and one position in the kernel.

    Args:
        n: How many are kept.
        m: How many there are.

    Raises:
        CompressError: `n` is not from 1 to below `m`.
    """

    n: int
    m: int

    def __post_init__(self) -> None:
        if not 1 <= self.n < self.m:
            raise CompressError(
                f"{self} keeps {self.n} of {self.m}", where=_WHERE, hint="keep fewer than there are"
            )

    @property
    def sparsity(self) -> float:
        """The fraction of the weights that go."""
        return 1 - self.n / self.m

    def columns(self, inputs: int, kernel: int) -> Tensor:
        """Returns which columns of a weight seen as a matrix make up each group.

        Args:
            inputs: Input channels of one group of the layer, a multiple of `m`.
            kernel: Positions in the kernel, 1 for a linear layer.

        Returns:
            Indices into `inputs * kernel` columns, the position in the kernel innermost:
            (inputs / m * kernel, m), int64.
        """
        return (
            torch.arange(inputs * kernel)
            .reshape(inputs // self.m, self.m, kernel)
            .transpose(1, 2)
            .reshape(-1, self.m)
        )

    def __str__(self) -> str:
        return f"{self.n}:{self.m}"


@dataclass(frozen=True)
class Block:
    """Blocks of weights go as a whole: output channels times input channels at one position.

    Args:
        outputs: Consecutive output channels of a block.
        inputs: Consecutive input channels of a block.

    Raises:
        CompressError: A block of a single weight, or of none.
    """

    outputs: int
    inputs: int

    def __post_init__(self) -> None:
        if min(self.outputs, self.inputs) < 1 or self.outputs * self.inputs < 2:
            raise CompressError(f"{self} holds no two weights", where=_WHERE, hint=_HINT)

    def __str__(self) -> str:
        return f"block:{self.outputs}x{self.inputs}"


Pattern = NM | Block
"""What limits the choice of the weights that go."""


def parse_pattern(text: str | Pattern | None) -> Pattern | None:
    """Returns the pattern that a text says, None for single weights.

    Args:
        text: `n:m` such as `2:4`, of which n are kept; `block:ROWSxCOLUMNS` such as `block:4x4`.

    Raises:
        CompressError: It says no pattern.
    """
    if text is None or isinstance(text, Pattern):
        return text
    found = re.fullmatch(r"(\d+):(\d+)|block:(\d+)x(\d+)", text) if isinstance(text, str) else None
    if found is None:
        raise CompressError(f"{text!r} is not a pattern", where=_WHERE, hint=_HINT)
    first, second = (int(number) for number in found.groups() if number is not None)
    return Block(first, second) if text.startswith("block") else NM(first, second)


def check_divides(pattern: Pattern | None, weights: Iterable[Weight]) -> None:
    """Refuses a pattern that does not divide the channels of every layer.

    Args:
        pattern: What limits the choice.
        weights: The weights that it is for.

    Raises:
        UnsupportedError: Names the first layer that it does not divide, and counts the others.
    """
    if pattern is None:
        return
    rows, columns = (1, pattern.m) if isinstance(pattern, NM) else (pattern.outputs, pattern.inputs)
    odd = [w for w in weights if w.outputs % rows or w.inputs % columns]
    if not odd:
        return
    first = odd[0]
    others = f" ({len(odd) - 1} more layers like it)" if len(odd) > 1 else ""
    of_group = " in each of its groups" if first.groups > 1 else ""
    raise UnsupportedError(
        f"{pattern} does not divide {first.outputs} output and {first.inputs} input "
        f"channels{of_group}{others}",
        where=first.layer,
        hint=f"exclude={_listed([weight.layer for weight in odd])}",
    )


def check_pattern_target(pattern: Pattern | None, target: Target | None) -> Target:
    """Returns the sparsity that is asked for; an n:m pattern brings its own.

    Args:
        pattern: What limits the choice.
        target: What was given beside it.

    Raises:
        CompressError: No target, one that is no sparsity, or another one than the pattern's.
    """
    own = pattern.sparsity if isinstance(pattern, NM) else None
    if target is None:
        if own is None:
            raise CompressError(
                "is missing", where="target", hint="give Target(sparsity=0.9), or an n:m pattern"
            )
        return Target(sparsity=own)
    if not isinstance(target, Target):
        raise CompressError(
            f"{target!r} is no target", where="target", hint="give Target(sparsity=0.9)"
        )
    if target.sparsity is None:
        raise UnsupportedError(
            f"zeros in weights do not bring {target}", where="target", hint="give sparsity="
        )
    if own is not None and target.sparsity != own:
        raise CompressError(
            f"{target} does not go with the pattern {pattern}, whose sparsity is {own:g}",
            where="target",
            hint="leave the target out, or the pattern",
        )
    return target


def _listed(layers: Sequence[str]) -> str:
    shown = ", ".join(repr(layer) for layer in layers[:20])
    return f"[{shown}]" if len(layers) <= 20 else f"[{shown}, ...]"

"""What is known of a kind of operation."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torchcompress.quantization.kinds.checks import Check

Args = dict[str, Any]
Function = Callable[..., Any]


def _no_sizes(args: Args) -> int:
    return 0


def _sound(args: Args) -> str | None:
    return None


@dataclass(frozen=True)
class Kind:
    """One kind of operation.

    Args:
        function: From the args, then the tensors of its layer, to the float function of the
            operands. A kind that pads takes the number that stands for zero instead of tensors.
        args: The check of each argument.
        operands: The fewest and most tensors that it reads.
        sizes: From the args to how many sizes it reads after the tensors.
        result: What it yields. `same` is the type, hence the range, of its operands: it only moves
            or picks values.
        indexed: Its last tensor holds integers that index the first.
        tensors: The names of its layer's tensors.
        rank: Dimensions of its input, where fixed.
        pads: It adds zeros.
        flaw: From checked args to what is wrong with them together, None where nothing is.
    """

    function: Callable[..., Function]
    args: Mapping[str, Check] = field(default_factory=dict)
    operands: tuple[int, int] = (1, 1)
    sizes: Callable[[Args], int] = _no_sizes
    result: Literal["float", "same", "size"] = "float"
    indexed: bool = False
    tensors: tuple[str, ...] = ()
    rank: int | None = None
    pads: bool = False
    flaw: Callable[[Args], str | None] = _sound


def missing(entries: list[int | None]) -> int:
    """Returns how many entries of a list come as operands."""
    return entries.count(None)


def filled(entries: list[int | None], sizes: tuple[int, ...]) -> list[int]:
    """Returns a list with its missing entries filled in, in order."""
    left = iter(sizes)
    return [next(left) if entry is None else entry for entry in entries]

"""One function or tensor method that quantization knows."""

from collections.abc import Callable
from typing import Any, NamedTuple

Handler = Callable[..., Any]


class Call(NamedTuple):
    """How a function is read.

    Args:
        handler: Takes the state of the trace, then the call's own arguments.
        targets: The functions and names of methods.
        takes: What it takes besides values of the program and plain arguments. Where `Parameter` is
            not among it, a tensor of the model comes as a constant of the program.
        inplace: Names that also write into the first argument.
    """

    handler: Handler
    targets: tuple[Any, ...]
    takes: tuple[type, ...] = ()
    inplace: tuple[Any, ...] = ()


def sequence(value: Any, length: int) -> list[Any]:
    """Returns a number or a sequence as a list of some length."""
    if isinstance(value, list | tuple):
        return list(value) * length if len(value) == 1 else list(value)
    return [value] * length

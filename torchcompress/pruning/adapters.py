"""Modules whose code ties one size to another, and the classes that let go of it."""

from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import Any

from torch import nn

from torchcompress.core.errors import CompressError

Adapt = Callable[[Any], None]
"""Prepares a module for sizes that its own class would derive from others."""

_ADAPTERS: dict[type[nn.Module], Adapt] = {}


def adapt(*kinds: type[nn.Module]) -> Callable[[Adapt], Adapt]:
    """Registers how modules of some classes are prepared for a cut.

    An attention that computes the width of a head as `embed_dim // num_heads` cannot lose a head
    while it keeps its embedding. The decorated function is called with such a module before the
    first cut of its tensors or of its children's: it gives the module a subclass of its own
    class, whose forward pass reads each size from where it is true, and keeps what is computed
    from the old sizes, such as a scale. The module stays the same object, with its parameters,
    hooks and names. A function registered by `mend` for the same class says which sizes change.

    Args:
        kinds: Classes of modules; their subclasses are left alone.

    Raises:
        CompressError: No class is given, or something else.
    """
    check_kinds("adapt", kinds)

    def register(function: Adapt) -> Adapt:
        for kind in kinds:
            _ADAPTERS[kind] = function
        return function

    return register


def check_kinds(decorator: str, kinds: tuple[Any, ...]) -> None:
    """Checks that a decorator was given classes of modules.

    Raises:
        CompressError: It was given none, or something else, such as the decorated function.
    """
    if not kinds or not all(isinstance(k, type) and issubclass(k, nn.Module) for k in kinds):
        raise CompressError(
            f"takes classes of modules, not {', '.join(map(repr, kinds)) or 'nothing'}",
            where=f"@{decorator}",
            hint=f"write @{decorator}(MyModule) above the function",
        )


def adapt_modules(model: nn.Module, names: Iterable[str]) -> None:
    """Prepares the modules that a cut reaches.

    Args:
        model: The model, changed in place.
        names: Parameters and buffers that are cut.
    """
    reached = {path for name in names for path in accumulate(name.split("."), "{}.{}".format)}
    for path, module in model.named_modules():
        if type(module) in _ADAPTERS and (path in reached or not path):
            _ADAPTERS[type(module)](module)

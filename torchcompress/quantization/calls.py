"""One call of a traced graph, read as operations of the program."""

import inspect
from collections.abc import Iterator
from typing import Any

from torch import fx, nn

from torchcompress.quantization import call_functions, call_modules
from torchcompress.quantization.tracing import Integer, Parameter, Shape, Tracing

_KINDS = {
    Parameter: "a tensor of the model",
    Integer: "a size that is known only when the model runs",
    Shape: "a shape that is known only when the model runs",
}


def read_call(
    state: Tracing, node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, bool]:
    """Appends the operations of one call.

    Args:
        state: What has been read so far.
        node: The call.
        args: Its positional arguments, nodes resolved.
        kwargs: Its keyword arguments, likewise.

    Returns:
        What the call yields, and whether it wrote into its first argument.

    Raises:
        UnsupportedError: A call outside the list.
    """
    if node.op == "call_module":
        module = state.model.get_submodule(str(node.target))
        return call_modules.read(state, str(node.target), module, args, kwargs), _inplace(module)
    handler, inplace = call_functions.find(node.target)
    if handler is None:
        raise state.unsupported(f"the operation {_title(node.target)}")
    taken = call_functions.SYMBOLS.get(handler, ())
    for argument in _leaves((*args, *kwargs.values())):
        if isinstance(argument, Parameter | Integer | Shape) and not isinstance(argument, taken):
            raise state.unsupported(f"{_title(node.target)} of {_KINDS[type(argument)]}")
    try:
        inspect.signature(handler).bind(state, *args, **kwargs)
    except TypeError as error:
        raise state.unsupported(f"{_title(node.target)} with these arguments ({error})") from error
    return handler(state, *args, **kwargs), inplace or bool(kwargs.get("inplace", False))


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _inplace(module: nn.Module) -> bool:
    return bool(getattr(module, "inplace", False))


def _title(target: Any) -> str:
    return target if isinstance(target, str) else getattr(target, "__name__", str(target))

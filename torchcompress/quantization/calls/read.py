"""One call of a traced graph, read as operations of the program."""

import inspect
from collections.abc import Callable
from typing import Any

from torch import fx, nn

from torchcompress.quantization.calls import (
    activations,
    arithmetic,
    attention,
    indexing,
    layers,
    movement,
    mvit,
    pooling,
    swin,
)
from torchcompress.quantization.calls.call import Call, Handler
from torchcompress.quantization.tracing import (
    Integer,
    Opaque,
    Parameter,
    Pieces,
    Shape,
    Tracing,
    Value,
)

_CALLS: list[Call] = [
    *(layers.FUNCTIONS + activations.FUNCTIONS + pooling.FUNCTIONS + movement.FUNCTIONS),
    *(
        indexing.FUNCTIONS
        + arithmetic.FUNCTIONS
        + attention.FUNCTIONS
        + swin.FUNCTIONS
        + mvit.FUNCTIONS
    ),
]
_FUNCTIONS: dict[Any, Call] = {t: c for c in _CALLS for t in (*c.targets, *c.inplace)}
_MODULES: dict[type[nn.Module], Handler] = {
    **layers.MODULES,
    **activations.MODULES,
    **pooling.MODULES,
    **movement.MODULES,
}
_SYMBOLS: dict[type, str] = {
    Integer: "a size that is known only when the model runs",
    Shape: "a shape that is known only when the model runs",
    Pieces: "pieces of a tensor whose number is not known",
    swin.FittedWindow: "a window of a size that is known only when the model runs",
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
        inplace = bool(getattr(module, "inplace", False))
        if inplace:
            _check_writable(state, type(module).__name__, args, kwargs)
        return _read_module(state, str(node.target), module, args, kwargs), inplace
    if isinstance(node.target, type) and issubclass(node.target, tuple):
        return args, False
    call, title = _FUNCTIONS.get(node.target), _title(node.target)
    if call is None:
        raise state.unsupported(f"the operation {title}")
    given, named = _admitted(state, call.takes, title, (args, kwargs))
    inplace = node.target in call.inplace or bool(kwargs.get("inplace", False))
    if inplace:
        _check_writable(state, title, args, kwargs)
    return _handled(state, title, call.handler, *given, **named), inplace


def _read_module(
    state: Tracing, path: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    given, title = (*args, *kwargs.values()), type(module).__name__
    if isinstance(module, nn.Identity) and len(given) == 1:
        return given[0]
    handler = attention.MODULES_WITH_ARGUMENTS.get(type(module))
    if handler is not None:
        plain, named = _admitted(state, (), title, (args, kwargs))
        return _handled(state, title, handler, path, module, *plain, **named)
    handler = _MODULES.get(type(module))
    if handler is None:
        raise state.unsupported(f"the module {title}")
    if len(given) != 1 or not isinstance(given[0], Value | Parameter):
        raise state.unsupported(f"{title} with these arguments")
    return handler(state, path, module, _admit(state, (), title, given[0]))


def _admitted(state: Tracing, takes: tuple[type, ...], title: str, given: Any) -> Any:
    """Returns arguments as a handler takes them, containers gone through."""
    if isinstance(given, dict):
        return {key: _admitted(state, takes, title, item) for key, item in given.items()}
    if isinstance(given, list | tuple):
        items = [_admitted(state, takes, title, item) for item in given]
        return items if isinstance(given, list) else tuple(items)
    return _admit(state, takes, title, given)


def _admit(state: Tracing, takes: tuple[type, ...], title: str, argument: Any) -> Any:
    if isinstance(argument, takes):
        return argument
    if isinstance(argument, Parameter):
        return state.constant(argument)
    if isinstance(argument, Opaque):
        raise state.unsupported(f"{title} of {argument.what}")
    if type(argument) in _SYMBOLS:
        raise state.unsupported(f"{title} of {_SYMBOLS[type(argument)]}")
    return argument


def _handled(
    state: Tracing, title: str, handler: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
    """Calls a handler, which knows fewer arguments than the call that it reads may have."""
    try:
        inspect.signature(handler).bind(state, *args, **kwargs)
        return handler(state, *args, **kwargs)
    except (TypeError, ValueError) as error:
        raise state.unsupported(f"{title} with these arguments ({error})") from error


def _check_writable(
    state: Tracing, title: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    if isinstance(args[0] if args else kwargs.get("input"), Parameter):
        raise state.unsupported(f"{title} into a tensor of the model")


def _title(target: Any) -> str:
    return target if isinstance(target, str) else getattr(target, "__name__", str(target))

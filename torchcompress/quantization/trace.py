"""From a module to a program: a symbolic trace, read call by call."""

from collections import OrderedDict
from dataclasses import replace
from typing import Any

from torch import Tensor, fx, nn
from torch.fx.proxy import TraceError as FxTraceError

from torchcompress.core.errors import ArtifactError, TraceError, UnsupportedError
from torchcompress.quantization.binding import ObservedCall
from torchcompress.quantization.calls.read import read_call
from torchcompress.quantization.operations import MOVEMENT
from torchcompress.quantization.patterns import fold_channel_shuffles, without_copies
from torchcompress.quantization.program import Program, Result
from torchcompress.quantization.sources import AnySource
from torchcompress.quantization.tracer import Tracer
from torchcompress.quantization.tracing import COPY, Parameter, Tracing, Value
from torchcompress.quantization.unchanged import Attributes, unchanged
from torchcompress.quantization.value_types import infer_types

VIEWS = MOVEMENT - {"cat", "stack", "take", "repeat", "repeat_interleave", "flip", "roll"}
"""Kinds whose output may share memory with their input."""


def trace(
    model: nn.Module,
    path: str = "",
    call: ObservedCall | None = None,
    *,
    training: bool = False,
) -> tuple[Program, dict[str, AnySource]]:
    """Reads a module's forward pass as a program.

    The model is left as it was. Sizes stay symbolic, so batch and image size may change.

    Args:
        model: Any module.
        path: Of the module inside it that is read; the whole by default. The names of layers and
            tensors are those of `model` in any case.
        call: How that module is called, where its arguments are more than tensors.
        training: Read it in train mode, with its dropouts and stochastic depths; else in eval mode.

    Returns:
        The program in float operations, and the source of each layer's tensors.

    Raises:
        TraceError: The forward pass depends on values, or on what an earlier one stored.
        UnsupportedError: An operation outside the list, named with its module.
    """
    with unchanged(model) as before:
        if training:
            model.train()
        graph, returned = _graph(model, path, call)
        _refuse_memory(graph, before, path, type(model).__name__)
        state = Tracing(model, dict(model.state_dict(keep_vars=True)), training)
        inputs: list[tuple[str, str]] = []
        optional: set[str] = set()
        result: Result = None
        for node in graph.nodes:
            if node.op == "placeholder":
                state.env[node] = Value(next(state.ids))
                inputs.append((str(node.target), state.env[node].id))
                optional.update([state.env[node].id] if node.args else [])
            elif node.op == "get_attr":
                state.env[node] = Parameter(str(node.target))
            elif node.op == "output":
                state.name = "output"
                result = _result(state, returned)
            else:
                state.begin(_path(node))
                args, kwargs = _resolve(state, node.args), _resolve(state, dict(node.kwargs))
                state.env[node], inplace = read_call(state, node, args, kwargs)
                if inplace:
                    _overwrite(state, node, args[0] if args else kwargs["input"])
    form = None if call is None or call.is_plain else call.form
    program = Program(tuple(inputs), tuple(state.ops), result, form)
    unread = {value for value, readers in program.readers().items() if not readers}
    while program.inputs and program.inputs[-1][1] in optional & unread:
        program = replace(program, inputs=program.inputs[:-1])
    program = fold_channel_shuffles(without_copies(program))
    _check_types(program)
    return program, state.sources.by_key


def _check_types(program: Program) -> None:
    """Refuses what would compute on integers, such as a difference of two index buffers."""
    try:
        infer_types(program)
    except ArtifactError as error:
        raise UnsupportedError(error.what, where=error.where) from error


def _refuse_memory(graph: fx.Graph, before: Attributes, path: str, name: str) -> None:
    """Refuses a forward pass that may read what it stored the last time.

    A module inside a model may not store anything in place of something: the code around it may
    read that. A whole model may, where no number or tensor can have been read before.
    """
    stored = before.replaced(by=_holds_proxy)
    read = {str(node.target) for node in graph.nodes if node.op == "get_attr"}
    numbers = {key for key, value in stored.items() if isinstance(value, int | float)}
    tensors = {key for key, value in stored.items() if isinstance(value, Tensor)}
    made = any(target.rpartition(".")[2].startswith("_tensor_constant") for target in read)
    memory = stored if path else numbers | (tensors if made else tensors & read)
    if memory:
        raise TraceError(
            f"it stores a value that a later call may read, {min(memory)!r}",
            where=path or name,
            hint="what one call leaves for the next cannot be quantized",
        )


def _graph(model: nn.Module, path: str, call: ObservedCall | None) -> tuple[fx.Graph, Any]:
    tracer = Tracer(path, call)
    try:
        return tracer.trace(model), tracer.returned
    except Exception as error:  # The code of a model may raise anything when it meets proxies.
        dynamic = isinstance(error, FxTraceError)
        what = "control flow depends on values" if dynamic else "it cannot be followed"
        raise TraceError(
            f"{what}: {str(error).partition('. ')[0]}",
            where=path or type(model).__name__,
            hint="control flow that depends on a tensor's values cannot be quantized as a whole",
        ) from error


def _holds_proxy(value: Any) -> bool:
    values = value.values() if isinstance(value, dict) else value
    items = values if isinstance(value, dict | list | tuple) else [value]
    return any(isinstance(item, fx.Proxy) for item in items)


def _path(node: fx.Node) -> str:
    """Returns the module path of a call, and its function."""
    if node.op == "call_module":
        return str(node.target)
    stack = node.meta.get("nn_module_stack") or {}
    owner = list(stack.values())[-1][0] if stack else ""
    # Not the node's own name: its number counts calls all over the graph.
    function = str(getattr(node.target, "__name__", node.target))
    return ".".join(part for part in (str(owner), function) if part)


def _resolve(state: Tracing, value: Any) -> Any:
    if isinstance(value, fx.Node):
        return state.env[value]
    if isinstance(value, dict):
        return {key: _resolve(state, item) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolve(state, item) for item in value]
    if isinstance(value, tuple):
        return tuple(_resolve(state, item) for item in value)
    if isinstance(value, slice):
        return slice(*(_resolve(state, v) for v in (value.start, value.stop, value.step)))
    return value


def _result(state: Tracing, value: Any) -> Result:
    if isinstance(value, fx.Proxy):
        value = state.env[value.node]
    if isinstance(value, Parameter):
        value = state.constant(value)
    if value is None or isinstance(value, Value):
        return None if value is None else value.id
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise state.unsupported("a result whose keys are not text")
        items = {key: _result(state, item) for key, item in value.items()}
        return ["OrderedDict", items] if isinstance(value, OrderedDict) else items
    if isinstance(value, list | tuple):
        kind: Any = "list" if isinstance(value, list) else "tuple"
        if state.training and hasattr(value, "_fields"):
            kind = type(value)
        return [kind, *(_result(state, item) for item in value)]
    raise state.unsupported(f"a result that is {type(value).__name__}")


def _overwrite(state: Tracing, node: fx.Node, old: Any) -> None:
    """Lets every name of a value that was written in place mean the new value."""
    new = state.env[node]
    if new == old:
        return
    aliases = _aliases(state, old)
    for other, value in state.env.items():
        if not isinstance(value, Value) or value.id not in aliases or other is node:
            continue
        if value == old:
            state.env[other] = new
        elif any(user > node for user in other.users):
            raise state.unsupported("writing in place through a view")


def _aliases(state: Tracing, value: Value) -> set[str]:
    """Returns the values that may share memory with `value`, itself included."""
    pairs = [
        (op.inputs[0], op.output)
        for op in state.ops
        if op.kind in VIEWS or (op.kind == COPY and op.args["shares"])
    ]
    found, grown = {value.id}, True
    while grown:
        more = {v for pair in pairs if found & set(pair) for v in pair}
        grown = not more <= found
        found |= more
    return found

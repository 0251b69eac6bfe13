"""The functions and tensor methods that quantization knows, as operations of the program."""

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torchvision.ops import stochastic_depth

from torchcompress.quantization.sources import Source
from torchcompress.quantization.tracing import Integer, Parameter, Shape, Tracing, Value

Handler = Callable[..., Any]


def find(target: Any) -> tuple[Handler | None, bool]:
    """Returns the handler of a function or method name, and whether it writes in place."""
    if target in _INPLACE:
        return _HANDLERS[_INPLACE[target]], True
    return _HANDLERS.get(target), False


def pair(value: Any) -> list[int]:
    """Returns an int or a pair as a list of two."""
    return [value, value] if isinstance(value, int) else list(value)


def conv_padding(state: Tracing, padding: Any, shape: tuple[int, ...], dilation: Any) -> list[int]:
    """Returns a convolution's padding as two numbers.

    Raises:
        UnsupportedError: `same` padding that is not symmetric.
    """
    if padding == "valid":
        return [0, 0]
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(pair(dilation), shape[2:], strict=True)]
        if any(t % 2 for t in total):
            raise state.unsupported("asymmetric 'same' padding")
        return [t // 2 for t in total]
    return pair(padding)


def _parameters(state: Tracing, weight: Any, bias: Any) -> tuple[str, str, Source]:
    named = isinstance(weight, Parameter) and (bias is None or isinstance(bias, Parameter))
    if not named or weight.name not in state.tensors:
        raise state.unsupported("a weight that the forward pass computes")
    path = weight.name.removesuffix(".weight")
    bias_name = None if bias is None else bias.name
    source = Source(tuple(state.tensors[weight.name].shape), weight.name, bias_name)
    return path, state.layer(path, source), source


def _conv2d(
    state: Tracing,
    input: Value,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Value:
    _, layer, source = _parameters(state, weight, bias)
    return state.emit(
        "conv2d",
        input,
        layer=layer,
        stride=pair(stride),
        padding=conv_padding(state, padding, source.shape, dilation),
        dilation=pair(dilation),
        groups=groups,
        activation=None,
    )


def _linear(state: Tracing, input: Value, weight: Any, bias: Any = None) -> Value:
    return state.emit("linear", input, layer=_parameters(state, weight, bias)[1], activation=None)


def _activation(name: str) -> Handler:
    def handler(state: Tracing, input: Value, inplace: bool = False) -> Value:
        return state.emit("activation", input, name=name)

    return handler


def max_pool2d(
    state: Tracing,
    input: Value,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Value:
    """Appends a max pooling."""
    if return_indices:
        raise state.unsupported("max pooling that returns indices")
    return state.emit(
        "max_pool2d",
        input,
        kernel_size=pair(kernel_size),
        stride=pair(kernel_size if stride is None else stride),
        padding=pair(padding),
        dilation=pair(dilation),
        ceil_mode=ceil_mode,
    )


def avg_pool2d(
    state: Tracing,
    input: Value,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Value:
    """Appends an average pooling."""
    if divisor_override is not None:
        raise state.unsupported("average pooling with a divisor of its own")
    return state.emit(
        "avg_pool2d",
        input,
        kernel_size=pair(kernel_size),
        stride=pair(kernel_size if stride is None else stride),
        padding=pair(padding),
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
    )


def adaptive_avg_pool2d(state: Tracing, input: Value, output_size: Any) -> Value:
    """Appends an adaptive average pooling; to one pixel it is a global one."""
    size = pair(output_size)
    if size == [1, 1]:
        return state.emit("global_avg_pool", input, keepdim=True)
    if any(n is None for n in size):
        raise state.unsupported("adaptive pooling that keeps a size")
    return state.emit("adaptive_avg_pool2d", input, size=size)


def flatten(state: Tracing, input: Value, start_dim: int = 0, end_dim: int = -1) -> Value:
    """Appends a flatten."""
    return state.emit("flatten", input, start=start_dim, end=end_dim)


def _mean(state: Tracing, input: Value, dim: Any, keepdim: bool = False) -> Value:
    dims = [dim] if isinstance(dim, int) else list(dim)
    if sorted(dims) == [2, 3]:
        return state.emit("global_avg_pool", input, keepdim=keepdim)
    return state.emit("mean", input, dims=dims, keepdim=keepdim)


def _cat(state: Tracing, tensors: Any, dim: int = 0) -> Value:
    return state.emit("cat", *tensors, dim=dim)


def _chunk(state: Tracing, input: Value, chunks: int, dim: int = 0) -> tuple[Value, ...]:
    made = (
        state.emit("chunk", input, chunks=chunks, dim=dim, index=index) for index in range(chunks)
    )
    return tuple(made)


def _reshape(state: Tracing, input: Value, *shape: Any) -> Value:
    entries = list(shape[0]) if len(shape) == 1 and isinstance(shape[0], list | tuple) else shape
    sizes = [entry for entry in entries if isinstance(entry, Integer)]
    plain = [None if isinstance(entry, Integer) else entry for entry in entries]
    return state.emit("reshape", input, *sizes, shape=plain)


def _permute(state: Tracing, input: Value, *dims: Any) -> Value:
    order = list(dims[0]) if len(dims) == 1 and isinstance(dims[0], list | tuple) else list(dims)
    return state.emit("permute", input, dims=order)


def _transpose(state: Tracing, input: Value, dim0: int, dim1: int) -> Value:
    return state.emit("transpose", input, dims=[dim0, dim1])


def _size(state: Tracing, input: Value, dim: int | None = None) -> Any:
    if dim is None:
        return Shape(input)
    return state.emit_integer("size", input, dim=dim)


def _getattr(state: Tracing, input: Any, name: str) -> Any:
    if name == "shape" and isinstance(input, Value):
        return Shape(input)
    raise state.unsupported(f"the attribute {name!r}")


def _getitem(state: Tracing, input: Any, index: Any) -> Any:
    if isinstance(input, Shape) and isinstance(index, int):
        return _size(state, input.of, index)
    if isinstance(input, list | tuple) and isinstance(index, int):
        return input[index]
    raise state.unsupported("indexing a tensor")


def _arithmetic(name: str) -> Handler:
    def handler(state: Tracing, input: Any, other: Any) -> Any:
        operands = (input, other)
        if all(isinstance(v, int | Integer) for v in operands):
            left, right = (v if isinstance(v, int) else None for v in operands)
            values = [v for v in operands if isinstance(v, Integer)]
            return state.emit_integer("integer", *values, operator=name, left=left, right=right)
        tensors = [v for v in operands if isinstance(v, Value)]
        numbers = [v for v in operands if isinstance(v, int | float)]
        if name in ("add", "mul") and len(tensors) == 2:
            return state.emit(name, *tensors)
        if name in ("add", "mul") and tensors and numbers:
            return state.emit(f"{name}_scalar", *tensors, value=float(numbers[0]))
        raise state.unsupported(f"{name} of these operands")

    return handler


def _contiguous(state: Tracing, input: Value) -> Value:
    return input


def _dropout(
    state: Tracing, input: Value, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Value:
    return dropout(state, input, "dropout", p, training)


def _dropout2d(
    state: Tracing, input: Value, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Value:
    return dropout(state, input, "dropout2d", p, training)


def _stochastic_depth(
    state: Tracing, input: Value, p: float, mode: str, training: bool = True
) -> Value:
    return dropout(state, input, f"stochastic_depth_{mode}", p, training)


def dropout(state: Tracing, x: Value, name: str, p: float, training: bool) -> Value:
    """Appends a dropout, where the train-mode forward pass is read."""
    if not training or p == 0:
        return x
    if not state.training:
        raise state.unsupported("dropout that stays on in eval mode", "pass training=self.training")
    return state.emit("dropout", x, name=name, p=float(p))


_add, _sub = _arithmetic("add"), _arithmetic("sub")
_mul, _floordiv = _arithmetic("mul"), _arithmetic("floordiv")
_NAMED: list[tuple[Handler, tuple[Any, ...]]] = [
    (_conv2d, (F.conv2d, torch.conv2d)),
    (_linear, (F.linear,)),
    (_activation("relu"), (F.relu, torch.relu, "relu")),
    (_activation("relu6"), (F.relu6,)),
    (_activation("hardswish"), (F.hardswish,)),
    (_activation("silu"), (F.silu,)),
    (_activation("hardsigmoid"), (F.hardsigmoid,)),
    (_activation("sigmoid"), (F.sigmoid, torch.sigmoid, "sigmoid")),
    (max_pool2d, (F.max_pool2d, torch.max_pool2d)),
    (avg_pool2d, (F.avg_pool2d,)),
    (adaptive_avg_pool2d, (F.adaptive_avg_pool2d,)),
    (flatten, (torch.flatten, "flatten")),
    (_mean, (torch.mean, "mean")),
    (_cat, (torch.cat, torch.concat)),
    (_chunk, (torch.chunk, "chunk")),
    (_reshape, (torch.reshape, "reshape", "view")),
    (_permute, (torch.permute, "permute")),
    (_transpose, (torch.transpose, "transpose")),
    (_size, ("size",)),
    (_getattr, (getattr,)),
    (_getitem, (operator.getitem,)),
    (_add, (operator.add, torch.add, "add")),
    (_sub, (operator.sub,)),
    (_mul, (operator.mul, torch.mul, "mul")),
    (_floordiv, (operator.floordiv,)),
    (_contiguous, ("contiguous",)),
    (_dropout, (F.dropout,)),
    (_dropout2d, (F.dropout2d,)),
    (_stochastic_depth, (stochastic_depth,)),
]
_HANDLERS: dict[Any, Handler] = {t: handler for handler, targets in _NAMED for t in targets}
SYMBOLS: dict[Handler, type | tuple[type, ...]] = {
    _conv2d: Parameter,
    _linear: Parameter,
    _reshape: Integer,
    _getattr: (Parameter, Integer, Shape),
    _getitem: Shape,
    **dict.fromkeys((_add, _sub, _mul, _floordiv), Integer),
}
"""What a handler takes besides values of the program and plain arguments."""
_INPLACE: dict[Any, Any] = {
    operator.iadd: operator.add,
    operator.imul: operator.mul,
    "add_": "add",
    "mul_": "mul",
    torch.relu_: torch.relu,
    "relu_": "relu",
}

"""Indexing, attributes, and the sizes of tensors."""

import operator
from typing import Any

import torch

from torchcompress.quantization.calls.call import Call
from torchcompress.quantization.calls.movement import narrow, transpose, unsqueeze
from torchcompress.quantization.tracing import (
    Integer,
    Opaque,
    Parameter,
    Pieces,
    Shape,
    Tracing,
    Value,
)


def _size(state: Tracing, input: Any, dim: int | None = None) -> Any:
    if isinstance(input, Parameter):
        shape = tuple(state.tensor(input.name).shape)
        return shape if dim is None else shape[dim]
    return Shape(input) if dim is None else state.size(input, dim)


def _rank(state: Tracing, input: Any) -> Any:
    if isinstance(input, Parameter):
        return state.tensor(input.name).dim()
    return state.emit_integer("rank", input)


def _getattr(state: Tracing, input: Any, name: str) -> Any:
    if name in ("dtype", "device"):
        return Opaque(name)
    if name == "shape" and isinstance(input, Value | Parameter):
        return _size(state, input)
    if name == "ndim" and isinstance(input, Value | Parameter):
        return _rank(state, input)
    if name in ("T", "mT") and isinstance(input, Value | Parameter):
        x = state.constant(input) if isinstance(input, Parameter) else input
        return transpose(state, x, -2, -1) if name == "mT" else transpose(state, x, 0, 1)
    raise state.unsupported(f"the attribute {name!r}")


def _getitem(state: Tracing, input: Any, index: Any) -> Any:
    if isinstance(input, Parameter):
        input = state.constant(input)
    if isinstance(input, Shape):
        return _part_of_shape(state, input, index)
    if isinstance(input, list | tuple) and isinstance(index, int | slice):
        return input[index]
    if isinstance(input, Pieces) and type(index) is int and index >= 0:
        if input.size is None:
            return state.emit("select", input.of, dim=input.dim, index=index)
        start = index * input.size
        return narrow(state, input.of, input.dim, start, start + input.size)
    if isinstance(input, Value):
        return _index(state, input, index)
    raise state.unsupported(f"indexing {type(input).__name__}")


def _part_of_shape(state: Tracing, shape: Shape, index: Any) -> Any:
    at = shape.start
    if type(index) is int and (at == 0 or index >= 0):
        return state.size(shape.of, at + index)
    if isinstance(index, slice) and index.step is None and at == 0:
        start, stop = index.start or 0, index.stop
        if stop is None:
            return (
                tuple(state.size(shape.of, d) for d in range(start, 0))
                if start < 0
                else Shape(shape.of, start)
            )
        if (start < 0) == (stop < 0):
            return tuple(state.size(shape.of, d) for d in range(start, stop))
    raise state.unsupported("a part of a shape whose length is not known")


def _index(state: Tracing, x: Value, index: Any) -> Value:
    """Appends the slices, picks and new dimensions of `x[index]`, one by one."""
    items = list(index) if isinstance(index, tuple) else [index]
    if (
        items
        and isinstance(items[-1], Value | Parameter)
        and items[:-1] == [slice(None)] * (len(items) - 1)
    ):
        return _take(state, x, len(items) - 1, items[-1])
    plain = (int, slice, type(None), type(Ellipsis))
    if any(isinstance(i, bool) or not isinstance(i, plain) for i in items):
        raise state.unsupported("indexing a tensor with this")
    at = items.index(...) if ... in items else len(items)
    dim = 0
    for item in items[:at]:
        x, kept = _index_one(state, x, item, dim)
        dim += kept
    dim = -1
    for item in reversed(items[at + 1 :]):
        x, kept = _index_one(state, x, item, dim)
        dim -= kept
    return x


def _take(state: Tracing, x: Value, dim: int, index: Any) -> Value:
    given = state.constant(index) if isinstance(index, Parameter) else index
    return state.emit("take", x, given, dim=dim)


def _index_one(state: Tracing, x: Value, item: Any, dim: int) -> tuple[Value, int]:
    """Returns what one item of an index makes, and the dimensions that it leaves."""
    if item is None:
        return unsqueeze(state, x, dim), 1
    if isinstance(item, int):
        return state.emit("select", x, dim=dim, index=item), 0
    bounds = (item.start, item.stop, item.step)
    if bounds == (None, None, None):
        return x, 1
    step = 1 if item.step is None else item.step
    if not all(b is None or isinstance(b, int | Integer) for b in bounds) or step < 1:
        raise state.unsupported("a slice with these bounds")
    return narrow(state, x, dim, item.start, item.stop, step), 1


_ANYTHING = (object,)
FUNCTIONS: list[Call] = [
    Call(_size, ("size",), (Parameter,)),
    Call(_rank, ("dim", "ndimension"), (Parameter,)),
    Call(_getattr, (getattr,), _ANYTHING),
    Call(_getitem, (operator.getitem,), _ANYTHING),
    Call(_take, (torch.index_select, "index_select")),
]

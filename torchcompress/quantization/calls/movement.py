"""Views, indexing, joining, padding: what moves values; and the sizes that these take."""

import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from torchcompress.quantization.calls.call import Call, Handler
from torchcompress.quantization.kinds.movement import FROM_OPERAND
from torchcompress.quantization.tracing import (
    COPY,
    Integer,
    Opaque,
    Parameter,
    Pieces,
    Shape,
    Tracing,
    Value,
)


def entries(state: Tracing, given: tuple[Any, ...]) -> list[Any]:
    """Returns sizes or dimensions that come one by one or as one sequence."""
    if len(given) == 1 and isinstance(given[0], list | tuple):
        return list(given[0])
    if any(isinstance(size, Shape) for size in given):
        raise state.unsupported("a shape whose length is not known")
    return list(given)


def _flatten(state: Tracing, input: Value, start_dim: int = 0, end_dim: int = -1) -> Value:
    return state.emit("flatten", input, start=start_dim, end=end_dim)


def _cat(state: Tracing, tensors: Any, dim: int = 0) -> Value:
    return state.emit("cat", *tensors, dim=dim)


def _stack(state: Tracing, tensors: Any, dim: int = 0) -> Value:
    return state.emit("stack", *tensors, dim=dim)


def _chunk(state: Tracing, input: Value, chunks: int, dim: int = 0) -> tuple[Value, ...]:
    made = (
        state.emit("chunk", input, chunks=chunks, dim=dim, index=index) for index in range(chunks)
    )
    return tuple(made)


def _narrow(state: Tracing, x: Value, dim: int, start: Any, stop: Any, step: int = 1) -> Value:
    operands = [bound for bound in (start, stop) if isinstance(bound, Integer)]
    first, last = (FROM_OPERAND if isinstance(b, Integer) else b for b in (start, stop))
    return state.emit("slice", x, *operands, dim=dim, start=first, stop=last, step=step)


def _split(state: Tracing, tensor: Value, split_size_or_sections: Any, dim: int = 0) -> Any:
    if isinstance(split_size_or_sections, int):
        return Pieces(tensor, dim, split_size_or_sections)
    ends = [sum(split_size_or_sections[: n + 1]) for n in range(len(split_size_or_sections))]
    starts = [0, *ends[:-1]]
    return tuple(_narrow(state, tensor, dim, *ends) for ends in zip(starts, ends, strict=True))


def _tensor_split(state: Tracing, input: Value, indices: Any, dim: int = 0) -> Any:
    if isinstance(indices, int):
        raise state.unsupported("tensor_split into sections")
    bounds = zip((0, *indices), (*indices, None), strict=True)
    return tuple(_narrow(state, input, dim, *pair) for pair in bounds)


def _unbind(state: Tracing, input: Value, dim: int = 0) -> Pieces:
    return Pieces(input, dim, None)


def _reshape(state: Tracing, input: Value, *shape: Any) -> Value:
    return state.emit_sized("reshape", input, sizes=entries(state, shape), into="shape")


def _expand(state: Tracing, input: Value, *sizes: Any) -> Value:
    return state.emit_sized("expand", input, sizes=entries(state, sizes), into="shape")


def _repeat(state: Tracing, input: Value, *repeats: Any) -> Value:
    return state.emit_sized("repeat", input, sizes=entries(state, repeats), into="counts")


def _repeat_interleave(state: Tracing, input: Value, repeats: Any, dim: int | None = None) -> Value:
    if dim is None or type(repeats) is not int:
        raise state.unsupported("repeat_interleave without a dimension or a number")
    return state.emit("repeat_interleave", input, count=repeats, dim=dim)


def _permute(state: Tracing, input: Value, *dims: Any) -> Value:
    return state.emit("permute", input, dims=entries(state, dims))


def _transpose(state: Tracing, input: Value, dim0: int, dim1: int) -> Value:
    return state.emit("transpose", input, dims=[dim0, dim1])


def _squeeze(state: Tracing, input: Value, dim: Any = None) -> Value:
    if dim is None:
        raise state.unsupported("squeeze of whatever has size 1", "name the dimension")
    return state.emit("squeeze", input, dims=[dim] if isinstance(dim, int) else list(dim))


def _unsqueeze(state: Tracing, input: Value, dim: int) -> Value:
    return state.emit("unsqueeze", input, dim=dim)


def _flip(state: Tracing, input: Value, *dims: Any) -> Value:
    return state.emit("flip", input, dims=entries(state, dims))


def _roll(state: Tracing, input: Value, shifts: Any, dims: Any = None) -> Value:
    if dims is None:
        raise state.unsupported("roll of a flattened tensor")
    given = [[v] if isinstance(v, int) else list(v) for v in (shifts, dims)]
    return state.emit("roll", input, shifts=given[0], dims=given[1])


def pad(
    state: Tracing, input: Value, pad: Any, mode: str = "constant", value: float | None = None
) -> Value:
    """Appends a padding."""
    if mode == "constant" and value:
        return state.emit("pad_constant", input, sides=list(pad), value=float(value))
    return state.emit_sized("pad", input, sizes=list(pad), into="sides", mode=mode)


def _pixel_shuffle(state: Tracing, input: Value, upscale_factor: int) -> Value:
    return state.emit("pixel_shuffle", input, factor=upscale_factor)


def _pixel_unshuffle(state: Tracing, input: Value, downscale_factor: int) -> Value:
    return state.emit("pixel_unshuffle", input, factor=downscale_factor)


def _channel_shuffle(state: Tracing, input: Value, groups: int) -> Value:
    return state.emit("channel_shuffle", input, groups=groups)


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
        return _transpose(state, x, -2, -1) if name == "mT" else _transpose(state, x, 0, 1)
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
        return _narrow(state, input.of, input.dim, start, start + input.size)
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
        return _unsqueeze(state, x, dim), 1
    if isinstance(item, int):
        return state.emit("select", x, dim=dim, index=item), 0
    bounds = (item.start, item.stop, item.step)
    if bounds == (None, None, None):
        return x, 1
    step = 1 if item.step is None else item.step
    if not all(b is None or isinstance(b, int | Integer) for b in bounds) or step < 1:
        raise state.unsupported("a slice with these bounds")
    return _narrow(state, x, dim, item.start, item.stop, step), 1


def _contiguous(state: Tracing, input: Value, memory_format: Any = None) -> Value:
    return state.emit(COPY, input, shares=True)


def _clone(state: Tracing, input: Value, memory_format: Any = None) -> Value:
    return state.emit(COPY, input, shares=False)


def _same(state: Tracing, input: Value) -> Value:
    return input


def _to(state: Tracing, input: Value, *args: Any, **kwargs: Any) -> Value:
    given = (*args, *kwargs.values())
    if not all(isinstance(a, Opaque) or a == torch.float32 for a in given):
        raise state.unsupported("a conversion to another dtype or device")
    return input


def _type_as(state: Tracing, input: Value, other: Value) -> Value:
    return input


_ANYTHING = (object,)
FUNCTIONS: list[Call] = [
    Call(_flatten, (torch.flatten, "flatten")),
    Call(_cat, (torch.cat, torch.concat, torch.concatenate)),
    Call(_stack, (torch.stack,)),
    Call(_chunk, (torch.chunk, "chunk")),
    Call(_split, (torch.split, "split")),
    Call(_tensor_split, (torch.tensor_split, "tensor_split")),
    Call(_take, (torch.index_select, "index_select")),
    Call(_unbind, (torch.unbind, "unbind")),
    Call(_reshape, (torch.reshape, "reshape", "view"), (Integer,)),
    Call(_expand, ("expand",), (Integer,)),
    Call(_repeat, ("repeat",), (Integer,)),
    Call(_repeat_interleave, (torch.repeat_interleave, "repeat_interleave")),
    Call(_permute, (torch.permute, "permute")),
    Call(_transpose, (torch.transpose, torch.swapaxes, torch.swapdims, "transpose", "swapaxes")),
    Call(_squeeze, (torch.squeeze, "squeeze")),
    Call(_unsqueeze, (torch.unsqueeze, "unsqueeze")),
    Call(_flip, (torch.flip, "flip")),
    Call(_roll, (torch.roll, "roll")),
    Call(pad, (F.pad,), (Integer,)),
    Call(_pixel_shuffle, (F.pixel_shuffle, torch.pixel_shuffle)),
    Call(_pixel_unshuffle, (F.pixel_unshuffle, torch.pixel_unshuffle)),
    Call(_channel_shuffle, (F.channel_shuffle, torch.channel_shuffle)),
    Call(_size, ("size",), (Parameter,)),
    Call(_rank, ("dim", "ndimension"), (Parameter,)),
    Call(_getattr, (getattr,), _ANYTHING),
    Call(_getitem, (operator.getitem,), _ANYTHING),
    Call(_contiguous, ("contiguous",)),
    Call(_clone, ("clone", torch.clone)),
    Call(_same, ("float", "detach")),
    Call(_to, ("to",), (Opaque,)),
    Call(_type_as, ("type_as",)),
]


def _pad_module(state: Tracing, path: str, module: Any, x: Value) -> Value:
    mode = type(module).__name__.split("Pad")[0]
    modes = {"Reflection": "reflect", "Replication": "replicate", "Circular": "circular"}
    sides = list(module.padding)
    return pad(state, x, sides, modes.get(mode, "constant"), getattr(module, "value", None))


MODULES: dict[type[nn.Module], Handler] = {
    nn.Flatten: lambda s, p, m, x: _flatten(s, x, m.start_dim, m.end_dim),
    nn.ChannelShuffle: lambda s, p, m, x: _channel_shuffle(s, x, m.groups),
    nn.PixelShuffle: lambda s, p, m, x: _pixel_shuffle(s, x, m.upscale_factor),
    nn.PixelUnshuffle: lambda s, p, m, x: _pixel_unshuffle(s, x, m.downscale_factor),
    **dict.fromkeys(
        (
            *(nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d),
            *(nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d),
            *(nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReflectionPad3d),
            *(nn.ReplicationPad1d, nn.ReplicationPad2d, nn.ReplicationPad3d),
            *(nn.CircularPad1d, nn.CircularPad2d, nn.CircularPad3d),
        ),
        _pad_module,
    ),
}

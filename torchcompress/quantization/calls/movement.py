"""Views, joining, padding: what moves values."""

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


def narrow(state: Tracing, x: Value, dim: int, start: Any, stop: Any, step: int = 1) -> Value:
    """Appends a slice of one dimension."""
    operands = [bound for bound in (start, stop) if isinstance(bound, Integer)]
    first, last = (FROM_OPERAND if isinstance(b, Integer) else b for b in (start, stop))
    return state.emit("slice", x, *operands, dim=dim, start=first, stop=last, step=step)


def _split(state: Tracing, tensor: Value, split_size_or_sections: Any, dim: int = 0) -> Any:
    if isinstance(split_size_or_sections, int):
        return Pieces(tensor, dim, split_size_or_sections)
    ends = [sum(split_size_or_sections[: n + 1]) for n in range(len(split_size_or_sections))]
    starts = [0, *ends[:-1]]
    return tuple(narrow(state, tensor, dim, *ends) for ends in zip(starts, ends, strict=True))


def _tensor_split(state: Tracing, input: Value, indices: Any, dim: int = 0) -> Any:
    if isinstance(indices, int):
        raise state.unsupported("tensor_split into sections")
    bounds = zip((0, *indices), (*indices, None), strict=True)
    return tuple(narrow(state, input, dim, *pair) for pair in bounds)


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


def transpose(state: Tracing, input: Value, dim0: int, dim1: int) -> Value:
    """Appends a swap of two dimensions."""
    return state.emit("transpose", input, dims=[dim0, dim1])


def _squeeze(state: Tracing, input: Value, dim: Any = None) -> Value:
    if dim is None:
        raise state.unsupported("squeeze of whatever has size 1", "name the dimension")
    return state.emit("squeeze", input, dims=[dim] if isinstance(dim, int) else list(dim))


def unsqueeze(state: Tracing, input: Value, dim: int) -> Value:
    """Appends a new dimension of size one."""
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


FUNCTIONS: list[Call] = [
    Call(_flatten, (torch.flatten, "flatten")),
    Call(_cat, (torch.cat, torch.concat, torch.concatenate)),
    Call(_stack, (torch.stack,)),
    Call(_chunk, (torch.chunk, "chunk")),
    Call(_split, (torch.split, "split")),
    Call(_tensor_split, (torch.tensor_split, "tensor_split")),
    Call(_unbind, (torch.unbind, "unbind")),
    Call(_reshape, (torch.reshape, "reshape", "view"), (Integer,)),
    Call(_expand, ("expand",), (Integer,)),
    Call(_repeat, ("repeat",), (Integer,)),
    Call(_repeat_interleave, (torch.repeat_interleave, "repeat_interleave")),
    Call(_permute, (torch.permute, "permute")),
    Call(transpose, (torch.transpose, torch.swapaxes, torch.swapdims, "transpose", "swapaxes")),
    Call(_squeeze, (torch.squeeze, "squeeze")),
    Call(unsqueeze, (torch.unsqueeze, "unsqueeze")),
    Call(_flip, (torch.flip, "flip")),
    Call(_roll, (torch.roll, "roll")),
    Call(pad, (F.pad,), (Integer,)),
    Call(_pixel_shuffle, (F.pixel_shuffle, torch.pixel_shuffle)),
    Call(_pixel_unshuffle, (F.pixel_unshuffle, torch.pixel_unshuffle)),
    Call(_channel_shuffle, (F.channel_shuffle, torch.channel_shuffle)),
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

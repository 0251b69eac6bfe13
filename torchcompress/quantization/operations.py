"""Float and data-movement operations: from an op to the function that computes it."""

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torchcompress.quantization.program import Op

Function = Callable[..., Any]
Tensors = Mapping[str, Tensor]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "hardswish": F.hardswish,
    "silu": F.silu,
    "hardsigmoid": F.hardsigmoid,
    "sigmoid": torch.sigmoid,
}
FUSED_ACTIVATIONS = ("relu", "relu6", "hardswish", "silu")
"""What an int8 layer can be followed by."""
RESIDUAL_ACTIVATIONS = (None, "relu")
"""What a fused residual sum can be followed by."""
ROUNDED = ("mul",)
"""Float kinds that can round their result to a uint8 grid."""
INTEGER_OPERATORS: dict[str, Callable[[int, int], int]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "floordiv": operator.floordiv,
}
CHANNELS_LAST = torch.channels_last


_ROUNDING = 1.5 * 2**23
"""Around it neighbouring float32 numbers are whole numbers: adding it rounds half to even."""
_FORMATS = {4: CHANNELS_LAST, 5: torch.channels_last_3d}
_LARGE, _PIECE = 2**19, 2**17
"""Elements: a large tensor is rounded in pieces that stay in a core's cache."""


def quantizer(scale: float, zero_point: int) -> Callable[[Tensor], Tensor]:
    """Returns the function from float32 to a uint8 grid: half to even, saturating.

    Dense tensors keep their order in memory: tokens `[batch, height, width, channels]` are no map.
    """
    offset, inverse = grid_offset(zero_point), 1.0 / scale

    def run(x: Tensor) -> Tensor:
        if not x.is_contiguous():
            x = x.contiguous(memory_format=_FORMATS.get(x.dim(), torch.contiguous_format))
        if x.numel() < _LARGE:
            return to_bytes(torch.add(offset, x, alpha=inverse)).to(torch.uint8)
        made = torch.empty_like(x, dtype=torch.uint8)
        size = _PIECE * torch.get_num_threads()
        sources, targets = (_in_memory_order(t).split(size) for t in (x, made))
        for source, target in zip(sources, targets, strict=True):
            target.copy_(to_bytes(torch.add(offset, source, alpha=inverse)))
        return made

    return run


def grid_offset(zero_point: int) -> Tensor:
    """Returns what is added to multiples of a grid's step before `to_bytes`."""
    return torch.tensor(_ROUNDING + zero_point)


def to_bytes(y: Tensor) -> Tensor:
    """Returns uint8 values in the low bytes of int32, from sums with a `grid_offset`, in place.

    Rounding and converting float32 to uint8 takes twice as long.
    """
    return y.clamp_(_ROUNDING, _ROUNDING + 255).view(torch.int32)


def _in_memory_order(x: Tensor) -> Tensor:
    return (x if x.is_contiguous() else x.movedim(1, -1)).view(-1)


def dequantizer(scale: float, zero_point: int) -> Callable[[Tensor], Tensor]:
    """Returns the function from the uint8 grid to float32."""
    return lambda q: q.float().sub_(zero_point).mul_(scale)


def activate(y: Tensor, name: str | None) -> Tensor:
    """Applies an activation by name; None is the identity."""
    return y if name is None else ACTIVATIONS[name](y)


def movement_function(op: Op) -> Function:
    """Returns the function of an op that only moves or picks values, on any dtype."""
    return _MOVEMENT[op.kind](op.args)


def float_function(op: Op, tensors: Tensors) -> Function:
    """Returns the function of an op that computes in float32."""
    if op.kind in _FLOAT:
        return _FLOAT[op.kind](op.args)
    weight, bias = tensors[f"{op.layer}.weight"], tensors[f"{op.layer}.bias"]
    return _LAYERS[op.kind](op.args, weight, bias)


def _cat(args: dict[str, Any]) -> Function:
    return lambda *xs: torch.cat(xs, args["dim"])


def _chunk(args: dict[str, Any]) -> Function:
    chunks, dim, index = args["chunks"], args["dim"], args["index"]
    return lambda x: x.chunk(chunks, dim)[index]


def _shuffle(args: dict[str, Any]) -> Function:
    groups = args["groups"]
    return lambda x: F.channel_shuffle(x, groups)


def _reshape(args: dict[str, Any]) -> Function:
    # None stands for a size that comes as an input.
    template: list[int | None] = args["shape"]

    def run(x: Tensor, *sizes: int) -> Tensor:
        left = iter(sizes)
        return x.reshape([next(left) if size is None else size for size in template])

    return run


def _integer(args: dict[str, Any]) -> Function:
    function, left, right = INTEGER_OPERATORS[args["operator"]], args["left"], args["right"]
    if left is not None:
        return lambda b: function(left, b)
    return function if right is None else lambda a: function(a, right)


def _adaptive(args: dict[str, Any]) -> Function:
    return lambda x: F.adaptive_avg_pool2d(x, args["size"])


_MOVEMENT: dict[str, Callable[[dict[str, Any]], Function]] = {
    "cat": _cat,
    "chunk": _chunk,
    "channel_shuffle": _shuffle,
    "flatten": lambda a: lambda x: x.flatten(a["start"], a["end"]),
    "reshape": _reshape,
    "permute": lambda a: lambda x: x.permute(a["dims"]),
    "transpose": lambda a: lambda x: x.transpose(*a["dims"]),
    # It acts in training alone; an int8 program has none.
    "dropout": lambda a: lambda x: x,
    "size": lambda a: lambda x: x.shape[a["dim"]],
    "integer": _integer,
}

_FLOAT: dict[str, Callable[[dict[str, Any]], Function]] = {
    "activation": lambda a: ACTIVATIONS[a["name"]],
    "add": lambda a: torch.add,
    "mul": lambda a: torch.mul,
    "add_scalar": lambda a: lambda x: x + a["value"],
    "mul_scalar": lambda a: lambda x: x * a["value"],
    "adaptive_avg_pool2d": _adaptive,
    "mean": lambda a: lambda x: x.mean(a["dims"], keepdim=a["keepdim"]),
    "max_pool2d": lambda a: lambda x: F.max_pool2d(x, **a),
    "avg_pool2d": lambda a: lambda x: F.avg_pool2d(x, **a),
    "global_avg_pool": lambda a: lambda x: x.mean((2, 3), keepdim=a["keepdim"]),
}


def _conv2d(args: dict[str, Any], weight: Tensor, bias: Tensor) -> Function:
    settings = (args["stride"], args["padding"], args["dilation"], args["groups"])

    def run(x: Tensor, *residual: Tensor) -> Tensor:
        y = F.conv2d(x, weight, bias, *settings)
        return activate(y + residual[0] if residual else y, args["activation"])

    return run


def _linear(args: dict[str, Any], weight: Tensor, bias: Tensor) -> Function:
    return lambda x: activate(F.linear(x, weight, bias), args["activation"])


def _conv_transpose2d(args: dict[str, Any], weight: Tensor, bias: Tensor) -> Function:
    return lambda x: F.conv_transpose2d(x, weight, bias, **args)


def _affine(args: dict[str, Any], weight: Tensor, bias: Tensor) -> Function:
    def run(x: Tensor) -> Tensor:
        tail = [1] * (x.dim() - 2)
        y = torch.addcmul(bias.view(-1, *tail), x, weight.view(-1, *tail))
        return activate(y, args["activation"])

    return run


_LAYERS: dict[str, Callable[[dict[str, Any], Tensor, Tensor], Function]] = {
    "conv2d": _conv2d,
    "linear": _linear,
    "conv_transpose2d": _conv_transpose2d,
    "affine": _affine,
}
MOVEMENT = frozenset(_MOVEMENT) - {"size", "integer"}
INTEGER = frozenset({"size", "integer"})
LAYERS = frozenset(_LAYERS)

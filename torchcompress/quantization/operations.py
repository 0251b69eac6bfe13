"""The closed list of kinds, and from an op to the function that computes it."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from torchcompress.quantization.kinds.attention import ATTENTION
from torchcompress.quantization.kinds.kind import Args, Function, Kind
from torchcompress.quantization.kinds.layers import (
    CONSTANTS,
    FUSED_ACTIVATIONS,
    LINEAR_ACTIVATIONS,
    NORMS,
    RESIDUAL_ACTIVATIONS,
    activate,
)
from torchcompress.quantization.kinds.layers import LAYERS as _LAYERS
from torchcompress.quantization.kinds.movement import MOVEMENT as _MOVEMENT
from torchcompress.quantization.kinds.pointwise import ACTIVATIONS, POINTWISE, TRAINING
from torchcompress.quantization.kinds.pooling import POOLING
from torchcompress.quantization.kinds.sizes import INTEGER_OPERATORS, SIZES
from torchcompress.quantization.program import Op

__all__ = [
    "ACTIVATIONS",
    "CHANNELS_LAST",
    "FUSED_ACTIVATIONS",
    "INTEGER",
    "INTEGER_OPERATORS",
    "KINDS",
    "LAYERS",
    "LINEAR_ACTIVATIONS",
    "MOVEMENT",
    "RESIDUAL_ACTIVATIONS",
    "ROUNDED",
    "STORED",
    "Function",
    "Tensors",
    "activate",
    "dequantizer",
    "float_function",
    "grid_offset",
    "layer_tensors",
    "movement_function",
    "quantizer",
    "tensor_operands",
    "to_bytes",
]

Tensors = Mapping[str, Tensor]
ROUNDED = ("mul",)
"""Float kinds that can round their result to a uint8 grid."""
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
    return torch.tensor(_ROUNDING + zero_point, dtype=torch.float32)


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


def _with_grid(args: Args) -> Function:
    raise AssertionError("needs a grid")


KINDS: dict[str, Kind] = {
    **_LAYERS,
    **CONSTANTS,
    **NORMS,
    **POINTWISE,
    **TRAINING,
    **POOLING,
    **ATTENTION,
    **_MOVEMENT,
    **SIZES,
    "quantize": Kind(_with_grid),
    "dequantize": Kind(_with_grid),
}
"""What each kind looks like and computes."""
STORED = KINDS.keys() - TRAINING.keys()
"""Kinds that a file may name."""
LAYERS = frozenset(_LAYERS)
"""Kinds with weights."""
MOVEMENT = frozenset(kind for kind, known in KINDS.items() if known.result == "same")
"""Kinds that move or pick values, of any type."""
INTEGER = frozenset(SIZES)
"""Kinds that yield a size."""


def movement_function(op: Op, zero: int = 0) -> Function:
    """Returns the function of an op that moves or picks values, or yields a size, on any dtype.

    Args:
        op: The operation.
        zero: What stands for zero in its operand.
    """
    kind = KINDS[op.kind]
    return kind.function(op.args, zero) if kind.pads else kind.function(op.args)


def float_function(op: Op, tensors: Tensors) -> Function:
    """Returns the function of an op that computes in float32."""
    return KINDS[op.kind].function(op.args, *(tensors[name] for name in layer_tensors(op)))


def layer_tensors(op: Op) -> tuple[str, ...]:
    """Returns the names of an op's tensors; an int8 layer has a scale besides."""
    names = ("weight", "scale", "bias") if op.int8 else KINDS[op.kind].tensors
    return tuple(f"{op.layer}.{name}" for name in names) if op.layer is not None else ()


def tensor_operands(op: Op) -> tuple[str, ...]:
    """Returns the values that an op reads, without the sizes."""
    sizes = KINDS[op.kind].sizes(op.args)
    return op.inputs[: len(op.inputs) - sizes]

"""What the native kernels need besides their input: tensors, grids and post-op."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from torchcompress.quantization.int8.reference import grid_of
from torchcompress.quantization.operations import Tensors
from torchcompress.quantization.program import Op, QParams
from torchcompress.quantization.value_types import ValueType

_POST_OPS: dict[str | None, tuple[str, list[float]]] = {
    None: ("none", []),
    "relu": ("relu", []),
    "relu6": ("hardtanh", [0.0, 6.0]),
    "hardswish": ("hardswish", []),
    "silu": ("swish", []),
}


@dataclass(frozen=True)
class Layer:
    """The constants of one kernel call.

    Args:
        weight: int8, not packed.
        scale: float32 `[channels]`.
        bias: float32 `[channels]`, or None.
        x: Grid of the input.
        out: Grid of the output; None for float32.
        activation: Applied last.
        residual: Grid of what is added before the activation, where anything is.
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor | None
    x: QParams
    out: QParams | None
    activation: str | None = None
    residual: QParams | None = None

    @property
    def weight_zeros(self) -> Tensor:
        """The zero points of the weights, all 0."""
        return torch.zeros(len(self.scale), dtype=torch.int32)

    @property
    def output(self) -> tuple[float, int, torch.dtype]:
        """Scale, zero point and dtype of the output, as the kernels take them."""
        if self.out is None:
            return 1.0, 0, torch.float32
        return self.out.scale, self.out.zero_point, torch.uint8

    @property
    def post_op(self) -> tuple[str, list[float]]:
        """OneDNN's name and arguments of the activation."""
        return _POST_OPS[self.activation]


def layer_of(op: Op, types: Sequence[ValueType], tensors: Tensors) -> Layer:
    """Returns the constants of a convolution or linear op."""
    return Layer(
        tensors[f"{op.layer}.weight"],
        tensors[f"{op.layer}.scale"],
        tensors[f"{op.layer}.bias"],
        grid_of(types[0]),
        op.out,
        op.args["activation"],
        grid_of(types[1]) if len(types) > 1 else None,
    )

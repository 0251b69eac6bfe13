"""What the native kernels need besides their input: tensors, grids and post-op."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torchcompress.quantization.int8.reference import grid_of
from torchcompress.quantization.operations import Tensors
from torchcompress.quantization.program import Op, QParams
from torchcompress.quantization.value_types import ValueType

_POST_OPS: dict[str | None, tuple[str, list[float], str]] = {
    None: ("none", [], ""),
    "relu": ("relu", [], ""),
    "relu6": ("hardtanh", [0.0, 6.0], ""),
    "hardswish": ("hardswish", [], ""),
    "silu": ("swish", [], ""),
    "gelu": ("gelu", [], "none"),
    "gelu_tanh": ("gelu", [], "tanh"),
    "tanh": ("tanh", [], ""),
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
    def _output(self) -> tuple[float, int, torch.dtype]:
        """Scale, zero point and dtype of the output, as the kernels take them."""
        if self.out is None:
            return 1.0, 0, torch.float32
        return self.out.scale, self.out.zero_point, torch.uint8

    @property
    def _post_op(self) -> tuple[str, list[float], str]:
        # What the grid's own ends do anyway is not done twice.
        idle = self.out is not None and clamps_alike(self.out, self.activation)
        return _POST_OPS[None if idle else self.activation]

    def _head(self, packed: Tensor) -> tuple[Any, ...]:
        zeros = torch.zeros(len(self.scale), dtype=torch.int32)
        return self.x.scale, self.x.zero_point, packed, self.scale, zeros

    def bind(
        self, packed: Tensor, geometry: tuple[Any, ...], op: Any
    ) -> Callable[[Tensor], Tensor]:
        """Returns a oneDNN call without a residual, all of its constants bound.

        Args:
            packed: The weight in the kernel's own form.
            geometry: What stands between bias and output: a window, or nothing.
            op: Such as `qconv_pointwise`.
        """
        call = op.default
        head = self._head(packed)
        tail = (self.bias, *geometry, *self._output, *self._post_op)
        return lambda x: call(x, *head, *tail)

    def bind_sum(
        self, packed: Tensor, geometry: tuple[Any, ...], op: Any
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """Returns a oneDNN call that adds into its second operand; args are those of `bind`."""
        assert self.residual is not None
        call, grid = op.binary, (self.residual.scale, self.residual.zero_point)
        head = self._head(packed)
        tail = (self.bias, *geometry, *self._output, *grid, "sum", 1.0)
        tail = (*tail, *self._post_op)
        return lambda x, accumulator: call(x, *head, accumulator, *tail)


def clamps_alike(out: QParams, activation: str | None) -> bool:
    """Returns whether a grid holds just what an activation leaves."""
    if activation == "relu6":
        return out.zero_point == 0 and round(6 / out.scale) >= 255
    return activation == "relu" and out.zero_point == 0


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

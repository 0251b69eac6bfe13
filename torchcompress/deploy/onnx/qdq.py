"""An int8 program as a module that torch exports: integers between QuantizeLinear and back."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from torchcompress.deploy.onnx.grids import inner_grid, symmetric_program
from torchcompress.deploy.onnx.presets import Preset
from torchcompress.quantization import Int8Model, interpreter
from torchcompress.quantization.binding import bind_inputs
from torchcompress.quantization.inner_grids import bare, needs_inner, takes_inner
from torchcompress.quantization.int8.reference import grid_of
from torchcompress.quantization.operations import (
    INTEGER,
    MOVEMENT,
    Function,
    Tensors,
    activate,
    float_function,
    layer_tensors,
    movement_function,
)
from torchcompress.quantization.program import Op, Program, QParams
from torchcompress.quantization.value_types import ValueType, infer_types

VALUE = "torchcompress.value"
"""The metadata key of a node that makes a uint8 value: the path of its part, `:`, its id."""


class QdqModule(nn.Module):
    """An int8 model in ONNX terms, to be exported, not run.

    It interprets the same program as the model does. An operation on integers is its own float
    function between DequantizeLinear and QuantizeLinear.

    Args:
        model: An int8 model.
        preset: How its values are written.
        path: Of the model in the one that holds it.
    """

    def __init__(self, model: Int8Model, preset: Preset, path: str = "") -> None:
        super().__init__()
        self._path = path
        self.program = preset_program(model.program, preset)
        self._types = infer_types(self.program)
        self._preset = preset
        self.layers = nn.Module()
        for name, tensor in self._stored(model.tensors).items():
            self.layers.register_buffer(name.replace(".", "/"), tensor)
        self.eval()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Computes the program."""
        inputs = bind_inputs(self.program, args, kwargs)
        tensors = {name.replace("/", "."): t for name, t in self.layers.named_buffers()}
        return interpreter.run(self.program, tensors, inputs, types=self._types, bind=self._bind)

    def _stored(self, tensors: Tensors) -> dict[str, Tensor]:
        """Returns the tensors in the form that the file holds."""
        stored: dict[str, Tensor] = {}
        for op in self.program.ops:
            if op.layer is None:
                continue
            if not op.int8:
                stored |= {name: tensors[name] for name in layer_tensors(op)}
                continue
            weight, scale, bias = (tensors[name] for name in layer_tensors(op))
            stored |= {f"{op.layer}.scale": scale, f"{op.layer}.bias": bias}
            if self._as_product(op, weight.shape):
                stored[f"{op.layer}.columns"] = weight.flatten(1).t().contiguous()
            else:
                stored[f"{op.layer}.weight"] = weight
            grid = self._types[op.inputs[0]]
            if self._preset.integer_bias and isinstance(grid, QParams):
                gain = scale.double() * grid.scale
                stored[f"{op.output}.bias"] = (bias / gain).round().to(torch.int32)
                stored[f"{op.output}.scale"] = gain.float()
        return stored

    def _as_product(self, op: Op, shape: Sequence[int]) -> bool:
        """Returns whether a layer is written as a matrix product.

        ONNX Runtime has an integer one that writes float32, but no such convolution.
        """
        if op.kind == "linear":
            return True
        if not self._preset.closed or op.out is not None or op.kind != "conv2d":
            return False
        plain = op.args["stride"] == [1, 1] and op.args["padding"] == [0, 0]
        return plain and op.args["groups"] == 1 and tuple(shape[2:]) == (1, 1)

    def _bind(
        self, op: Op, types: Sequence[ValueType], tensors: Tensors, shapes: object = None
    ) -> Function:
        if op.kind in INTEGER or op.kind in MOVEMENT:
            return movement_function(op, self._zero(types))
        if op.int8 and f"{op.layer}.columns" in tensors:
            return self._product(op, types, tensors)
        if takes_inner(op) and self._preset.closed:
            inner = inner_grid(op, types)
            if inner is not None or not needs_inner(op, types):
                return self._closed_convolution(op, types, tensors, inner)
        if op.kind == "quantize":
            return lambda x: self._leave(x, op)
        if op.kind == "dequantize":
            return lambda x: self._enter(x, types[0])
        if op.kind == "max_pool2d" and self._preset.integer_values:
            # Pooling has no grid of its own: its output shares that of its input.
            shared = types[0] if isinstance(types[0], QParams) else None
            return self._between(op, types, tensors, shared)
        return self._between(op, types, tensors, op.out)

    def _between(
        self, op: Op, types: Sequence[ValueType], tensors: Tensors, out: QParams | None
    ) -> Function:
        """Returns an operation's float function between dequantized inputs and its grid."""

        def run(*operands: Any) -> Tensor:
            reals = [self._enter(x, t) for x, t in zip(operands, types, strict=True)]
            y = self._float(op, tensors)(*reals)
            return y if out is None else self._leave(y, replace(op, out=out))

        return run

    def _float(self, op: Op, tensors: Tensors) -> Function:
        if not op.int8 or op.layer is None:
            return float_function(op, tensors)
        weight, scale = tensors[f"{op.layer}.weight"], tensors[f"{op.layer}.scale"]
        return float_function(
            replace(op, int8=False),
            {
                f"{op.layer}.weight": _dequantized(weight, scale, 0),
                f"{op.layer}.bias": _bias(op, tensors),
            },
        )

    def _product(self, op: Op, types: Sequence[ValueType], tensors: Tensors) -> Function:
        columns, scale = tensors[f"{op.layer}.columns"], tensors[f"{op.layer}.scale"]
        maps = op.kind == "conv2d"

        def run(x: Tensor) -> Tensor:
            real = self._enter(x.permute(0, 2, 3, 1) if maps else x, types[0])
            # ONNX Runtime takes a product of vectors with an integer bias, others with a float.
            bias = _bias(op, tensors) if x.dim() == 2 else tensors[f"{op.layer}.bias"]
            y = torch.matmul(real, _dequantized(columns, scale, 1)) + bias
            y = activate(y.permute(0, 3, 1, 2) if maps else y, op.args["activation"])
            return y if op.out is None else self._leave(y, op)

        return run

    def _closed_convolution(
        self, op: Op, types: Sequence[ValueType], tensors: Tensors, inner: QParams | None
    ) -> Function:
        """Returns a convolution that a QuantizeLinear follows before its sum and activation."""

        def run(x: Tensor, *residual: Tensor) -> Tensor:
            y = self._float(bare(op), tensors)(self._enter(x, types[0]))
            if inner is not None:
                y = _dequantize(_quantize(y, inner, self._preset), inner, self._preset)
            for other in residual:
                y = y + self._enter(other, types[1])
            name = op.args["activation"]
            if op.out is None:
                return activate(y, name)
            if name in ("relu", "relu6"):
                return self._clipped(y, op)
            return self._leave(activate(y, name), op)

        return run

    def _clipped(self, y: Tensor, op: Op) -> Tensor:
        """Writes ReLU and ReLU6 as the ends of the grid, which is exact: rounding keeps order."""
        grid = grid_of(op.out)
        low, high = grid.zero_point, 255
        if op.args["activation"] == "relu6":
            high = min(round(6 / grid.scale) + grid.zero_point, 255)
        if (low, high) == (0, 255):
            return self._leave(y, op)
        q = _quantize(y, grid, self._preset)
        ends = [_integer(end, self._preset) for end in (low, high)]
        q = _symbolic("Clip", (q, *ends), q, q.dtype, self._mark(op))
        return q if self._preset.integer_values else _dequantize(q, grid, self._preset)

    def _zero(self, types: Sequence[ValueType]) -> int:
        """Returns what stands for zero where an operation pads its first operand."""
        stored = self._preset.integer_values and types and isinstance(types[0], QParams)
        return grid_of(types[0]).zero_point if stored else 0

    def _mark(self, op: Op) -> str:
        return f"{self._path}:{op.output}"

    def _enter(self, x: Any, grid: ValueType) -> Any:
        """Returns the real form of a value."""
        if not isinstance(grid, QParams) or not self._preset.integer_values:
            return x
        return _dequantize(x, grid, self._preset)

    def _leave(self, y: Tensor, op: Op) -> Tensor:
        """Returns the form in which an operation's uint8 output stands between operations."""
        grid = grid_of(op.out)
        q = _quantize(y, grid, self._preset, self._mark(op))
        return q if self._preset.integer_values else _dequantize(q, grid, self._preset)


def preset_program(program: Program, preset: Preset) -> Program:
    """Returns the int8 program whose numbers a preset's file computes."""
    return symmetric_program(program) if preset.symmetric else program


def _bias(op: Op, tensors: Tensors) -> Tensor:
    integers = tensors.get(f"{op.output}.bias")
    if integers is None:
        return tensors[f"{op.layer}.bias"]
    return _dequantized(integers, tensors[f"{op.output}.scale"], 0)


def _dequantized(weight: Tensor, scale: Tensor, axis: int) -> Tensor:
    # ONNX Runtime fuses products only where the zero points are written out.
    inputs = (weight, scale, torch.zeros(len(scale), dtype=weight.dtype))
    return _symbolic("DequantizeLinear", inputs, weight, torch.float32, attrs={"axis": axis})


def _quantize(y: Tensor, grid: QParams, preset: Preset, value: str | None = None) -> Tensor:
    inputs = (y, torch.tensor(grid.scale), _integer(grid.zero_point, preset))
    return _symbolic("QuantizeLinear", inputs, y, _dtype(preset), value)


def _dequantize(q: Tensor, grid: QParams, preset: Preset) -> Tensor:
    inputs = (q, torch.tensor(grid.scale), _integer(grid.zero_point, preset))
    return _symbolic("DequantizeLinear", inputs, q, torch.float32)


def _integer(value: int, preset: Preset) -> Tensor:
    """Returns a uint8 constant, on a symmetric grid less its zero point of 128."""
    return torch.tensor(value - 128 if preset.symmetric else value, dtype=_dtype(preset))


def _dtype(preset: Preset) -> torch.dtype:
    return torch.int8 if preset.symmetric else torch.uint8


def _symbolic(
    name: str,
    inputs: tuple[Tensor, ...],
    like: Tensor,
    dtype: torch.dtype,
    value: str | None = None,
    attrs: Mapping[str, int] | None = None,
) -> Tensor:
    """Returns the output of an ONNX operator, of the shape of `like`."""
    made = torch.onnx.ops.symbolic(
        name,
        inputs,
        dict(attrs or {}),
        dtype=dtype,
        shape=like.shape,
        metadata_props=None if value is None else {VALUE: value},
    )
    assert isinstance(made, Tensor)
    return made

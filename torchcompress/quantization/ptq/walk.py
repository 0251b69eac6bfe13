"""Float and int8 side by side, layer by layer, so that each layer is fitted behind the last."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from torchcompress.core.progress import progress
from torchcompress.quantization import interpreter
from torchcompress.quantization.adjustments import Adjustment, adjusted, as_tensor, per_channel
from torchcompress.quantization.int8 import kernels, reference
from torchcompress.quantization.int8.selftest import native_works
from torchcompress.quantization.operations import Function, Tensors, dequantizer, float_function
from torchcompress.quantization.program import Op, Program, QParams
from torchcompress.quantization.ptq.samples import Inputs
from torchcompress.quantization.quantize_part import Draft
from torchcompress.quantization.sources import Source
from torchcompress.quantization.value_types import Types, ValueType, infer_types


class _Lane:
    """One call's values, as far as they have been computed and are still needed."""

    def __init__(
        self, program: Program, types: Types, tensors: Mapping[str, Tensor], inputs: Inputs
    ) -> None:
        self.program, self.types, self.tensors = program, types, tensors
        self.env: dict[str, Any] = {
            value: interpreter.to_channels_last(x)
            for (_, value), x in zip(program.inputs, inputs, strict=True)
        }
        self.last = interpreter.last_reads(program)
        self.done = 0

    def advance(self, before: str, bind: interpreter.Bind) -> None:
        """Computes all that comes before the op which makes a value."""
        while self.program.ops[self.done].output != before:
            op = self.program.ops[self.done]
            self.env[op.output] = interpreter.compute(op, self.env, self.tensors, self.types, bind)
            for value in self.last.get(self.done, ()):
                self.env.pop(value, None)
            self.done += 1

    def operands(self, op: Op) -> list[Tensor]:
        """Returns what an op reads, in float32."""
        found = []
        for value in op.inputs:
            grid, made = self.types[value], self.env[value]
            if isinstance(grid, QParams):
                made = dequantizer(grid.scale, grid.zero_point)(made)
            found.append(made)
        return found


@dataclass
class Visit:
    """A layer that the walk has come to; what it reads in int8 carries the noise so far.

    Args:
        op: The layer in the int8 program.
        weight: Its float weight, float64.
        bias: Its float bias, float64.
        tensors: Of the int8 program; a change to this layer's counts from here on.
        adjustment: What has been changed about the layer.
    """

    op: Op
    weight: Tensor
    bias: Tensor
    tensors: dict[str, Tensor]
    adjustment: Adjustment
    _exact: Sequence[_Lane]
    _noisy: Sequence[_Lane]
    _float_op: Op

    @property
    def layer(self) -> str:
        """The key of its tensors."""
        assert self.op.layer is not None
        return self.op.layer

    @property
    def input_type(self) -> ValueType:
        """What its input is stored as in the int8 program."""
        return self._noisy[0].types[self.op.inputs[0]]

    def inputs(self) -> Iterator[Tensor]:
        """Yields what the layer reads in each call, in float32 with the noise so far."""
        for lane in self._noisy:
            yield lane.operands(self.op)[0]

    @property
    def int8_weight(self) -> Tensor:
        """What its integers stand for, float64."""
        weight, scale = (self.tensors[f"{self.layer}.{name}"] for name in ("weight", "scale"))
        return weight.double() * scale.double().view(-1, *[1] * (weight.dim() - 1))

    def correct_bias(self) -> None:
        """Shifts the bias so that the mean of each channel before the activation is float's."""
        total, count = torch.zeros_like(self.bias), 0
        for exact, noisy in zip(self._exact, self._noisy, strict=True):
            x, *residual = exact.operands(self._float_op)
            noisy_x, *noisy_residual = noisy.operands(self.op)
            gap = self._linear_part(self.weight, x) - self._linear_part(self.int8_weight, noisy_x)
            for a, b in zip(residual, noisy_residual, strict=True):
                gap = gap + a.mean(0, keepdim=True, dtype=torch.float64)
                gap = gap - b.mean(0, keepdim=True, dtype=torch.float64)
            channels = gap.transpose(-1 if self.op.kind == "linear" else 1, 0).flatten(1)
            total += channels.sum(1) * len(x)
            count += channels.shape[1] * len(x)
        shift = per_channel(total / count)
        self.adjustment = replace(self.adjustment, shift=shift)
        bias = self.bias + as_tensor(shift, self.bias)
        self.tensors[f"{self.layer}.bias"] = bias.float()

    def _linear_part(self, weight: Tensor, x: Tensor) -> Tensor:
        """Returns the mean over the batch of what the layer adds its bias to."""
        tensors = {
            f"{self.layer}.weight": weight,
            f"{self.layer}.bias": torch.zeros_like(self.bias),
        }
        bare = replace(self.op, int8=False, args={**self.op.args, "activation": None})
        return float_function(bare, tensors)(x.mean(0, keepdim=True, dtype=torch.float64))


def _bound_once(bind: interpreter.Bind) -> interpreter.Bind:
    """Returns a `bind` that packs an op's weights once for each shape."""
    made: dict[Any, Function] = {}

    def find(op: Op, types: Any, tensors: Tensors, shapes: Any) -> Function:
        key = (op.output, tuple(shapes))
        if key not in made:
            made[key] = bind(op, types, tensors, shapes)
        return made[key]

    return find


def walk(draft: Draft, calls: Sequence[Inputs], label: str) -> Iterator[Visit]:
    """Visits the int8 layers in the order in which they run.

    Layers that are called more than once are passed by.

    Args:
        draft: What is run; left as it is.
        calls: Inputs of the program.
        label: Of the progress bar.
    """
    module = draft.float_module()
    model, made = draft.int8_model()
    types, tensors = infer_types(model.program), dict(model.tensors)
    exact = [_Lane(module.program, module.types, module.tensors, x) for x in calls]
    noisy = [_Lane(model.program, types, tensors, x) for x in calls]
    by_output = {op.output: op for op in model.program.ops}
    native = calls[0][0].device.type == "cpu" and native_works()
    uses = Counter(op.layer for op in module.program.ops)
    layers = [
        op
        for op in module.program.ops
        if op.output in draft.int8 | draft.slower.keys()
        and isinstance(draft.sources.get(op.layer or ""), Source)
        and uses[op.layer] == 1
    ]
    with torch.no_grad():
        for op in progress(layers, label, unit="layer"):
            assert op.layer is not None
            adjustment = draft.adjustments.get(op.layer, Adjustment())
            bind = _bound_once(kernels.bind if native else reference.bind)
            for lane in exact:
                lane.advance(op.output, reference.bind)
            for lane in noisy:
                lane.advance(made[op.output], bind)
            source = draft.sources[op.layer]
            assert isinstance(source, Source)
            weight, bias = adjusted(source, adjustment, draft.state)
            lowered = by_output[made[op.output]]
            yield Visit(lowered, weight, bias, tensors, adjustment, exact, noisy, op)

"""One forward pass of a fake-quantized form over the live modules of a model."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import stochastic_depth

from torchcompress.core.modules import device_of
from torchcompress.quantization.adjustments import Adjustment
from torchcompress.quantization.int8.reference import bind
from torchcompress.quantization.interpreter import last_reads
from torchcompress.quantization.operations import activate
from torchcompress.quantization.plan_part import int8_layer
from torchcompress.quantization.program import Op, QParams, map_result, result_values
from torchcompress.quantization.qat.activations import Ranges
from torchcompress.quantization.qat.fake_quantize import (
    dequantized,
    learned_weight,
    rounded_weight,
    straight_through,
)
from torchcompress.quantization.qat.form import Form
from torchcompress.quantization.sources import (
    Source,
    fold_vectors,
    scale_outputs,
    unfolded_weight,
)

_DROPOUTS = {
    "dropout": F.dropout,
    "dropout2d": F.dropout2d,
    "stochastic_depth_row": lambda x, p, training: stochastic_depth(x, p, "row", training),
    "stochastic_depth_batch": lambda x, p, training: stochastic_depth(x, p, "batch", training),
}


@dataclass
class Forward:
    """What one forward pass uses.

    Args:
        model: Whose live modules are used; parameters are read where they are now.
        prefix: What names begin with that are those of a model around it.
        form: What is computed.
        ranges: Of the activations.
        grids: Those of this pass, by class.
        steps: Learned factors of the steps of weights, by layer.
        frozen: Norms use their running statistics, folded into the weights.
    """

    model: nn.Module
    prefix: str
    form: Form
    ranges: Ranges
    grids: list[QParams]
    steps: dict[str, Tensor]
    frozen: bool
    _live: "_Live" = field(init=False)
    _folded: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._live = _Live(self.model, self.prefix)

    def __call__(self, inputs: Sequence[Tensor]) -> Any:
        """Computes the program.

        Args:
            inputs: In the order of the program's inputs.
        """
        program = self.form.program
        wanted, last = set(result_values(program.result)), last_reads(program)
        env: dict[str, Any] = {v: x for (_, v), x in zip(program.inputs, inputs, strict=True)}
        results = {value: x for value, x in env.items() if value in wanted}
        for index, op in enumerate(program.ops):
            env[op.output] = self._compute(op, [env[value] for value in op.inputs])
            if op.output in wanted:
                results[op.output] = env[op.output]
            for value in last.get(index, ()):
                del env[value]
        return map_result(program.result, results)

    def _compute(self, op: Op, operands: list[Any]) -> Any:
        if op.kind == "dequantize":
            return operands[0]
        if op.kind == "dropout":
            return self._dropout(op.args, operands[0])
        rectified = False
        source = None if op.layer is None else self.form.sources[op.layer]
        if op.kind == "quantize":
            y = operands[0]
        elif isinstance(source, Source):
            y, *residual = operands
            y = self._layer(op, source, y)
            if "dropout" in op.args:
                y = self._dropout(op.args["dropout"], y)
            y = y + residual[0] if residual else y
            activation = op.args.get("activation")
            rectified = activation == "relu" and op.out is not None
            y = y if rectified else activate(y, activation)
        elif source is not None:
            y = source.live(self._live).to(device_of(self.model))
        else:
            y = _float_function(op, {})(*operands)
        if op.out is None:
            return y
        index = self.form.classes[op.output]
        return self.ranges.quantize(index, y, self.grids[index], rectified=rectified)

    def _layer(self, op: Op, source: Source, x: Tensor) -> Tensor:
        """Returns a layer's output before its sum and activation."""
        key, bare = str(op.layer), op
        if "activation" in op.args:
            # A norm alone is a depthwise convolution of integers, and a product of floats.
            kind = op.kind if source.weight is not None else "affine"
            bare = replace(op, kind=kind, args={**op.args, "activation": None})
        norms = [self._live.module(n.mean.rpartition(".")[0]) for n in source.norms]
        if self.frozen or not any(norm.training for norm in norms):
            if key not in self._folded:
                self._folded[key] = self._weight(op, source), self._bias(source)
            weight, bias = self._folded[key]
            return _float_function(bare, {f"{key}.weight": weight, f"{key}.bias": bias})(x)
        if source.weight is not None:
            # On a symmetric grid rounding commutes with gamma / sigma: batch statistics need no
            # correction, and gamma no division.
            plain = replace(source, norms=())
            weight = self._weight(op, plain, exact=False)
            tensors = {f"{key}.weight": weight, f"{key}.bias": self._bias(plain)}
            x = _float_function(bare, tensors)(x)
        for norm in norms:
            x = norm(x)
        return x

    def _weight(self, op: Op, source: Source, *, exact: bool = True) -> Tensor:
        """Returns a layer's folded weight, fake-quantized where it will be int8.

        Args:
            op: The layer.
            source: Its tensors.
            exact: Round just as the int8 program will.
        """
        live, groups = self._live, source.transposed_groups
        smooth = unfolded_weight(source, live)
        for gain in fold_vectors(source, live)[0]:
            smooth = scale_outputs(smooth, gain.float(), groups)
        if not op.int8:
            return smooth
        key = str(op.layer)
        steps = self.steps.get(key)
        with torch.no_grad():
            if exact:
                inputs = self.form.inputs.get(key, ())
                smallest = min((self.grids[index].scale for index in inputs), default=math.inf)
                integers, scale, _ = int8_layer(source, adjustment(steps), smallest, live)
            else:
                integers, scale = rounded_weight(smooth, steps)
        if steps is None:
            return straight_through(smooth, dequantized(integers, scale, groups))
        return learned_weight(smooth, integers, scale, steps, groups)

    def _bias(self, source: Source) -> Tensor:
        return fold_vectors(source, self._live)[1].float()

    def _dropout(self, args: dict[str, Any], x: Tensor) -> Tensor:
        if args["module"] is not None:
            return self._live.module(args["module"])(x)
        return _DROPOUTS[args["name"]](x, args["p"], self.model.training)


def adjustment(steps: Tensor | None) -> Adjustment:
    """Returns learned factors of a layer's steps as a plan holds them."""
    return Adjustment() if steps is None else Adjustment(steps=tuple(steps.double().tolist()))


def _float_function(op: Op, tensors: Mapping[str, Tensor]) -> Callable[..., Any]:
    """Returns what an operation of the int8 program computes in float32, before any rounding."""
    return bind(replace(op, int8=False, out=None), (), tensors)


class _Live(dict[str, Tensor]):
    """The tensors of a model by name, as they are now."""

    def __init__(self, model: nn.Module, prefix: str) -> None:
        super().__init__()
        self._model, self._prefix = model, prefix

    def __missing__(self, name: str) -> Tensor:
        path, _, own = name.rpartition(".")
        return getattr(self.module(path), own)

    def module(self, path: str) -> nn.Module:
        """Returns a module by its path."""
        return self._model.get_submodule(f"{path}.".removeprefix(self._prefix).rstrip("."))

"""One program of a quantization plan, and its weights made out of a model's."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

from torchcompress.core.errors import ArtifactError, CompressError, UnsupportedError
from torchcompress.quantization.adjustments import (
    Adjustment,
    Adjustments,
    adjusted,
    adjusted_value,
    as_tensor,
    parse_adjustments,
)
from torchcompress.quantization.check_tensors import check_tensors
from torchcompress.quantization.int8.weights import quantize_weight
from torchcompress.quantization.learned import LearnedWeight
from torchcompress.quantization.model import Int8Model
from torchcompress.quantization.parse import parse_program
from torchcompress.quantization.parse_sources import parse_sources
from torchcompress.quantization.program import Program
from torchcompress.quantization.sources import AnySource, Constant, Source
from torchcompress.quantization.table import Row, parse_rows
from torchcompress.quantization.trials import Trial, parse_trials
from torchcompress.quantization.value_types import QParams, infer_types


@dataclass(frozen=True)
class PlanPart:
    """What becomes of a whole model, or of one module in it, as plain data.

    Args:
        program: With the grid of each uint8 value.
        sources: For each layer or constant, the state_dict names of its tensors and norms in the
            whole model.
        rows: What became of each layer.
        adjustments: What algorithms changed about a layer's tensors, by layer.
        trials: What each algorithm did to the error of the outputs.
        learned: Layers whose rounding was learned.
        integers: What was learned. It is as large as the model, so JSON goes without it.
    """

    program: Program
    sources: dict[str, AnySource]
    rows: tuple[Row, ...]
    adjustments: dict[str, Adjustment] = field(default_factory=dict)
    trials: tuple[Trial, ...] = ()
    learned: tuple[str, ...] = ()
    integers: dict[str, LearnedWeight] = field(default_factory=dict, repr=False, compare=False)

    def build(self, state: Mapping[str, Tensor]) -> tuple[Int8Model, list[str]]:
        """Folds and quantizes the weights of a model.

        Learned rounding holds for the weights that it was learned from, and for no others.

        Args:
            state: The state_dict of the whole model.

        Returns:
            The int8 model, and the layers that are rounded to nearest since their learned rounding
            is not at hand or belongs to other weights.

        Raises:
            UnsupportedError: Weights that are not float32 or not finite.
            CompressError: A tensor is missing or of another shape (the first one is named).
            ArtifactError: The program and the sources do not belong together.
        """
        check_weights(self.sources, state)
        tensors = int8_tensors(self.program, self.sources, self.adjustments, {}, state)
        lost: list[str] = []
        for layer in self.learned:
            known = self.integers.get(layer)
            if known is not None and known.fits(layer, tensors):
                tensors[f"{layer}.weight"] = known.weight
            else:
                lost.append(layer)
        return self.holding(tensors), lost

    def holding(self, tensors: Mapping[str, Tensor]) -> Int8Model:
        """Returns the program with its own tensors, once they are checked.

        Raises:
            ArtifactError: They do not belong to the program.
        """
        check_tensors(self.program, tensors)
        return Int8Model(self.program, tensors, self.rows)

    def to_json(self) -> dict[str, Any]:
        """Returns the part as JSON values."""
        return {
            "program": self.program.to_json(),
            "sources": {key: source.to_json() for key, source in self.sources.items()},
            "rows": [row.to_json() for row in self.rows],
            "adjustments": {key: value.to_json() for key, value in self.adjustments.items()},
            "trials": [trial.to_json() for trial in self.trials],
            "learned": list(self.learned),
        }

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Returns the part that `to_json` described.

        Raises:
            ArtifactError: Something else.
        """
        names = {"program", "sources", "rows", "adjustments", "trials", "learned"}
        if not isinstance(data, dict) or set(data) != names:
            raise ArtifactError(f"needs exactly {', '.join(sorted(names))}", where="plan")
        sources, learned = parse_sources(data["sources"]), data["learned"]
        if not isinstance(learned, list) or not all(name in sources for name in learned):
            raise ArtifactError("must be layers of the plan", where="plan.learned")
        return cls(
            parse_program(data["program"]),
            sources,
            parse_rows(data["rows"]),
            parse_adjustments(data["adjustments"], sources),
            parse_trials(data["trials"]),
            tuple(learned),
        )


def int8_tensors(
    program: Program,
    sources: Mapping[str, AnySource],
    adjustments: Adjustments,
    integers: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Returns the tensors of an int8 program, folded and quantized.

    Args:
        program: With the grid of each uint8 value.
        sources: Of its layers.
        adjustments: Of its layers.
        integers: Learned int8 weights, by layer; other weights go to the nearest integer.
        state: The state_dict that the sources name.
    """
    scales = _input_scales(program)
    tensors: dict[str, Tensor] = {}
    for key, source in sources.items():
        if isinstance(source, Constant):
            tensors[f"{key}.value"] = adjusted_value(source, adjustments.get(key), state)
            continue
        adjustment = adjustments.get(key, Adjustment())
        if key in scales:
            rounded, scale, bias = int8_layer(source, adjustment, scales[key], state)
            tensors[f"{key}.scale"] = scale
            weight = integers.get(key, rounded)
        else:
            weight, bias = (t.float() for t in _shifted(source, adjustment, state))
        tensors[f"{key}.weight"], tensors[f"{key}.bias"] = weight, bias
    return tensors


def int8_layer(
    source: Source, adjustment: Adjustment, input_scale: float, state: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns one layer, folded and rounded to nearest.

    Args:
        source: The layer.
        adjustment: What algorithms changed about it.
        input_scale: The smallest scale of its inputs.
        state: The state_dict that the source names.

    Returns:
        int8 weight, float32 scale `[channels]`, float32 bias `[channels]`.
    """
    weight, bias = _shifted(source, adjustment, state)
    steps = None if adjustment.steps is None else as_tensor(adjustment.steps, bias)
    return quantize_weight(weight, bias, input_scale, steps)


def _shifted(
    source: Source, adjustment: Adjustment, state: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    weight, bias = adjusted(source, adjustment, state)
    if adjustment.shift is None:
        return weight, bias
    return weight, bias + as_tensor(adjustment.shift, bias)


def _input_scales(program: Program) -> dict[str, float]:
    """Returns the smallest input scale that each layer with int8 weights meets."""
    types = infer_types(program)
    scales: dict[str, float] = {}
    for op in program.ops:
        if op.int8 and op.layer is not None:
            grid = types[op.inputs[0]]
            scale = grid.scale if isinstance(grid, QParams) else math.inf
            scales[op.layer] = min(scale, scales.get(op.layer, math.inf))
    return scales


def check_weights(sources: Mapping[str, AnySource], state: Mapping[str, Tensor]) -> None:
    """Checks that a state_dict holds the tensors of every source, in float32 and finite.

    Raises:
        CompressError: A tensor is missing or of another shape.
        UnsupportedError: It is not float32, or not finite.
    """
    for source in sources.values():
        for name, shape in source.expected_shapes().items():
            if name not in state:
                raise CompressError("the model has no such tensor", where=name, hint=_OTHER)
            tensor = state[name]
            if tuple(tensor.shape) != shape:
                raise CompressError(
                    f"has shape {list(tensor.shape)}, the plan {list(shape)}",
                    where=name,
                    hint=_OTHER,
                )
            if isinstance(source, Constant) and source.dtype == "int64":
                _need_int64(name, tensor)
                continue
            if tensor.dtype != torch.float32:
                raise UnsupportedError(
                    f"is {tensor.dtype}, not float32", where=name, hint="call model.float() first"
                )
            # A constant may be a mask, which holds infinity.
            known = isinstance(source, Constant)
            if torch.isnan(tensor).any() if known else not torch.isfinite(tensor).all():
                raise UnsupportedError(
                    "holds NaN or infinity", where=name, hint="restore the checkpoint"
                )


def _need_int64(name: str, tensor: Tensor) -> None:
    if tensor.dtype != torch.int64:
        raise UnsupportedError(f"is {tensor.dtype}, not int64", where=name, hint=_OTHER)


_OTHER = "the plan was made for another architecture"

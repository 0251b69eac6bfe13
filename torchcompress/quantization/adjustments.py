"""What algorithms change about a layer's folded tensors: a few numbers a channel."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor

from torchcompress.core.errors import ArtifactError
from torchcompress.quantization.sources import AnySource, Constant, Source, fold, scale_outputs

_DIGITS = 5


@dataclass(frozen=True)
class Adjustment:
    """Changes to one layer, in the order in which they act; None changes nothing.

    The first two move a scale from one layer to another and leave the network's function as it
    is; the others make up for rounding, so that the float network goes without them.

    Args:
        inputs: Factor of the weights that read each input channel.
        outputs: Factor of each output channel's weights and bias.
        shift: What is added to the bias.
        steps: Factor of each output channel's int8 step; below 1 the largest weights saturate.
    """

    inputs: tuple[float, ...] | None = None
    outputs: tuple[float, ...] | None = None
    shift: tuple[float, ...] | None = None
    steps: tuple[float, ...] | None = None

    def scaled(self, *, inputs: Tensor | None = None, outputs: Tensor | None = None) -> Self:
        """Returns it with further factors, and without what was fitted to the old ones."""
        return replace(
            self,
            inputs=_product(self.inputs, inputs),
            outputs=_product(self.outputs, outputs),
            shift=None,
            steps=None,
        )

    def to_json(self) -> dict[str, Any]:
        """Returns the fields that change something, as JSON values."""
        return {key: list(value) for key, value in vars(self).items() if value is not None}


Adjustments = Mapping[str, Adjustment]
"""By layer."""


def per_channel(values: Tensor) -> tuple[float, ...]:
    """Returns numbers as an adjustment keeps them: few enough digits to stand in a plan."""
    return tuple(float(f"{value:.{_DIGITS}g}") for value in values.double().flatten().tolist())


def _product(old: tuple[float, ...] | None, new: Tensor | None) -> tuple[float, ...] | None:
    if new is None:
        return old
    return per_channel(new if old is None else new.double().cpu() * torch.tensor(old).double())


def adjusted(
    source: Source, adjustment: Adjustment, state: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Returns a layer's folded weight and bias with its factors, without its shift.

    Args:
        source: The layer.
        adjustment: Its changes.
        state: The state_dict that the source names.

    Returns:
        Weight of `source.shape` and bias `[channels]`, both float64.
    """
    weight, bias = fold(source, state)
    if adjustment.inputs is not None:
        weight = scale_inputs(weight, as_tensor(adjustment.inputs, weight), source)
    if adjustment.outputs is not None:
        factors = as_tensor(adjustment.outputs, weight)
        weight = scale_outputs(weight, factors, source.transposed_groups)
        bias = bias * factors
    return weight, bias


def adjusted_value(
    constant: Constant, adjustment: Adjustment | None, state: Mapping[str, Tensor]
) -> Tensor:
    """Returns a constant, its last dimension multiplied by the factors.

    Args:
        constant: The tensor.
        adjustment: Its changes, where it has any.
        state: The state_dict that it stands in.
    """
    value = constant.value(state)
    if adjustment is None or adjustment.outputs is None:
        return value
    return (value.double() * as_tensor(adjustment.outputs, value)).to(value.dtype)


def scale_inputs(weight: Tensor, gain: Tensor, source: Source) -> Tensor:
    """Returns a weight with what reads each input channel multiplied.

    Args:
        weight: Of any layer.
        gain: One for each input channel, over all groups.
        source: The layer.
    """
    tail = [1] * (weight.dim() - 2)
    if source.transposed_groups:
        return weight * gain.view(-1, 1, *tail)
    groups = len(gain) // weight.shape[1]
    return (weight.unflatten(0, (groups, -1)) * gain.view(groups, 1, -1, *tail)).flatten(0, 1)


def as_tensor(values: tuple[float, ...], like: Tensor) -> Tensor:
    """Returns an adjustment's numbers in float64, on a tensor's device."""
    return torch.tensor(values, dtype=torch.float64, device=like.device)


def parse_adjustments(data: Any, sources: Mapping[str, AnySource]) -> dict[str, Adjustment]:
    """Reads adjustments from JSON values that nobody vouches for.

    Args:
        data: By layer, what `Adjustment.to_json` returned, or anything else.
        sources: The layers.

    Raises:
        ArtifactError: Not adjustments of these layers, with the place.
    """
    if not isinstance(data, dict) or not set(data) <= set(sources):
        raise ArtifactError("must be an object by layer", where="plan.adjustments")
    return {key: _parse(value, sources[key], key) for key, value in data.items()}


def _parse(data: Any, source: AnySource, key: str) -> Adjustment:
    where = f"plan.adjustments.{key}"
    if not isinstance(data, dict) or not set(data) <= {f.name for f in fields(Adjustment)}:
        raise ArtifactError("has other fields", where=where)
    for name, values in data.items():
        numbers = isinstance(values, list) and all(
            type(v) is float and math.isfinite(v) and (v > 0 or name == "shift") for v in values
        )
        if not numbers or not _fits(len(values), name, source):
            raise ArtifactError("must be a number for each channel", where=f"{where}.{name}")
    return Adjustment(**{name: tuple(values) for name, values in data.items()})


def _fits(count: int, name: str, source: AnySource) -> bool:
    if isinstance(source, Constant):
        return name == "outputs" and source.dtype == "float32" and source.shape[-1:] == (count,)
    if name != "inputs":
        return count == source.channels
    outer, *inner = source.shape
    if source.transposed_groups or not inner:
        return count == outer
    groups, rest = divmod(count, inner[0])
    return rest == 0 and groups > 0 and outer % groups == 0

"""Where a layer's weights come from: state_dict names, and the norms folded into them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Norm:
    """A batch norm in eval mode, by state_dict names.

    Args:
        mean: Running mean.
        var: Running variance.
        eps: Added to the variance.
        weight: Gamma, where affine.
        bias: Beta, where affine.
    """

    mean: str
    var: str
    eps: float
    weight: str | None
    bias: str | None


@dataclass(frozen=True)
class Source:
    """The tensors that make up one layer, by state_dict names.

    Args:
        shape: Of the weight; `[channels, 1, 1, 1]` for a norm alone.
        weight: None for a norm that follows no layer.
        bias: None where the layer has none.
        norms: Applied to the output, in order.
        transposed_groups: Groups of a transposed convolution, 0 for every other layer.
        rows: First row and end of what the layer uses of weight and bias; None is all.
        zeroed: First and end of the bias entries that count as 0.
    """

    shape: tuple[int, ...]
    weight: str | None = None
    bias: str | None = None
    norms: tuple[Norm, ...] = ()
    transposed_groups: int = 0
    rows: tuple[int, int] | None = None
    zeroed: tuple[int, int] | None = None

    @property
    def channels(self) -> int:
        """Output channels."""
        if self.rows is not None:
            return self.rows[1] - self.rows[0]
        return self.shape[1] * self.transposed_groups if self.transposed_groups else self.shape[0]

    def expected_shapes(self) -> dict[str, tuple[int, ...]]:
        """Returns the shape that each named tensor must have."""
        vector = (self.channels,)
        shapes: dict[str, tuple[int, ...]] = {}
        if self.weight is not None:
            shapes[self.weight] = self.shape
        if self.rows is not None and self.bias is not None:
            return {**shapes, self.bias: self.shape[:1]}
        for name in (self.bias, *(n for norm in self.norms for n in _names(norm))):
            if name is not None:
                shapes[name] = vector
        return shapes

    def to_json(self) -> dict[str, Any]:
        """Returns the source as JSON values."""
        return {
            "shape": list(self.shape),
            "weight": self.weight,
            "bias": self.bias,
            "norms": [vars(norm) for norm in self.norms],
            "transposed_groups": self.transposed_groups,
            "rows": None if self.rows is None else list(self.rows),
            "zeroed": None if self.zeroed is None else list(self.zeroed),
        }


@dataclass(frozen=True)
class Constant:
    """A tensor that the program reads as a value: a parameter, a buffer or plain numbers.

    Args:
        shape: Its shape.
        dtype: `float32`, or `int64` for an index.
        name: In the state_dict; None for plain numbers.
        numbers: In order, where it has no name.
    """

    shape: tuple[int, ...]
    dtype: str
    name: str | None = None
    numbers: tuple[float, ...] = ()

    def expected_shapes(self) -> dict[str, tuple[int, ...]]:
        """Returns the shape that its tensor must have."""
        return {} if self.name is None else {self.name: self.shape}

    def value(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Returns a copy of the tensor, out of a model's state_dict."""
        return self.live(tensors).detach().clone()

    def live(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Returns the tensor itself."""
        if self.name is not None:
            return tensors[self.name]
        device = next((tensor.device for tensor in tensors.values()), None)
        dtype = torch.float32 if self.dtype == "float32" else torch.int64
        return torch.tensor(self.numbers, dtype=dtype, device=device).view(self.shape)

    def to_json(self) -> dict[str, Any]:
        """Returns the constant as JSON values."""
        return {
            "shape": list(self.shape),
            "dtype": self.dtype,
            "name": self.name,
            "numbers": list(self.numbers),
        }


AnySource = Source | Constant


def _names(norm: Norm) -> tuple[str | None, ...]:
    return norm.mean, norm.var, norm.weight, norm.bias


@dataclass
class Sources:
    """Sources under unique keys; equal sources share one key, hence one set of tensors."""

    by_key: dict[str, AnySource] = field(default_factory=dict)

    def key(self, path: str, source: AnySource) -> str:
        """Returns the key of a source: its module path, numbered where that is taken."""
        number, key = 1, path
        while self.by_key.setdefault(key, source) != source:
            number += 1
            key = f"{path}#{number}"
        return key


def fold(source: Source, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Folds a layer's norms into its weight and bias.

    Args:
        source: The layer.
        tensors: The model's state_dict.

    Returns:
        Weight of `source.shape` (of its rows) and bias `[channels]`, both float64.
    """
    gains, bias = fold_vectors(source, tensors)
    weight = unfolded_weight(source, tensors).double()
    for gain in gains:
        weight = scale_outputs(weight, gain, source.transposed_groups)
    return weight, bias


def unfolded_weight(source: Source, tensors: Mapping[str, Tensor]) -> Tensor:
    """Returns a layer's weight without its norms: ones, where it is a norm alone."""
    if source.weight is None:
        return torch.ones(source.shape, dtype=torch.float32, device=_device(source, tensors))
    weight = tensors[source.weight]
    return weight if source.rows is None else weight[slice(*source.rows)]


def fold_vectors(source: Source, tensors: Mapping[str, Tensor]) -> tuple[list[Tensor], Tensor]:
    """Returns what a layer's norms multiply its outputs by, and its bias.

    Args:
        source: The layer.
        tensors: The model's state_dict.

    Returns:
        A gain `[channels]` for each norm, and the folded bias `[channels]`, in float64.
    """
    zeros = torch.zeros(source.channels, dtype=torch.float64, device=_device(source, tensors))
    bias = zeros if source.bias is None else tensors[source.bias].double()
    if source.rows is not None and source.bias is not None:
        bias = bias[slice(*source.rows)]
    if source.zeroed is not None:
        bias = bias.index_fill(0, torch.arange(*source.zeroed, device=bias.device), 0.0)
    gains: list[Tensor] = []
    for norm in source.norms:
        gain = (tensors[norm.var].double() + norm.eps).rsqrt()
        if norm.weight is not None:
            gain = gain * tensors[norm.weight].double()
        shift = zeros if norm.bias is None else tensors[norm.bias].double()
        bias = (bias - tensors[norm.mean].double()) * gain + shift
        gains.append(gain)
    return gains, bias


def _device(source: Source, tensors: Mapping[str, Tensor]) -> torch.device:
    return tensors[next(iter(source.expected_shapes()))].device


def scale_outputs(weight: Tensor, gain: Tensor, transposed_groups: int) -> Tensor:
    """Returns a weight with each output channel multiplied.

    Args:
        weight: Of any layer.
        gain: `[channels]`.
        transposed_groups: As in `Source`.
    """
    if not transposed_groups:
        return weight * gain.view(-1, *[1] * (weight.dim() - 1))
    grouped = weight.unflatten(0, (transposed_groups, -1))
    tail = [1] * (weight.dim() - 2)
    return (grouped * gain.view(transposed_groups, 1, -1, *tail)).flatten(0, 1)


def folded_tensors(
    sources: Mapping[str, AnySource], tensors: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Returns the float32 tensors of a program, folded.

    A layer has `<key>.weight` and `<key>.bias`, a constant `<key>.value`.
    """
    found: dict[str, Tensor] = {}
    for key, source in sources.items():
        if isinstance(source, Constant):
            found[f"{key}.value"] = source.value(tensors)
            continue
        weight, bias = fold(source, tensors)
        found[f"{key}.weight"] = weight.float()
        found[f"{key}.bias"] = bias.float()
    return found

"""Adjustments against the layers that they change, run in float."""

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torchcompress.core.errors import ArtifactError
from torchcompress.quantization.adjustments import (
    Adjustment,
    adjusted,
    parse_adjustments,
    per_channel,
)
from torchcompress.quantization.sources import Source


def conv(groups: int) -> tuple[nn.Module, Source, Tensor]:
    return nn.Conv2d(4, 6, 3, groups=groups), Source((6, 4 // groups, 3, 3), "weight", "bias"), X


def transposed(groups: int) -> tuple[nn.Module, Source, Tensor]:
    shape = (4, 6 // groups, 3, 3)
    source = Source(shape, "weight", "bias", transposed_groups=groups)
    return nn.ConvTranspose2d(4, 6, 3, groups=groups), source, X


X = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(0))
LINEAR = (nn.Linear(4, 6), Source((6, 4), "weight", "bias"), X[:, :, 0, 0])


@pytest.mark.parametrize(
    ("layer", "source", "x"), [conv(1), conv(2), transposed(1), transposed(2), LINEAR]
)
def test_factors_multiply_channels(layer: nn.Module, source: Source, x: Tensor) -> None:
    inputs = per_channel(torch.rand(4) + 0.5)
    outputs = per_channel(torch.rand(6) + 0.5)
    state = layer.state_dict()
    weight, bias = adjusted(source, Adjustment(inputs=inputs, outputs=outputs), state)
    tail = [1] * (x.dim() - 2)
    want = layer(x * torch.tensor(inputs).view(-1, *tail))
    want = want * torch.tensor(outputs).view(-1, *tail)
    layer.load_state_dict({"weight": weight.float(), "bias": bias.float()})
    torch.testing.assert_close(layer(x), want)


def test_scaling_twice_multiplies_and_forgets_what_was_fitted() -> None:
    first = Adjustment(outputs=(2.0, 3.0), shift=(1.0, 1.0), steps=(0.9, 1.0))
    second = first.scaled(inputs=torch.tensor([4.0]), outputs=torch.tensor([0.5, 2.0]))
    assert second == Adjustment(inputs=(4.0,), outputs=(1.0, 6.0))


def test_json_round_trip() -> None:
    source = Source((6, 2, 3, 3), "weight", None)
    made = {"a": Adjustment(inputs=(0.5,) * 4, shift=per_channel(torch.randn(6)))}
    data = json.loads(json.dumps({key: value.to_json() for key, value in made.items()}))
    assert parse_adjustments(data, {"a": source, "b": source}) == made


@pytest.mark.parametrize(
    "data",
    [
        [],
        {"b": {}},
        {"a": []},
        {"a": {"other": [1.0]}},
        {"a": {"shift": [1.0] * 5}},
        {"a": {"shift": [float("nan")] * 6}},
        {"a": {"steps": [0.0] * 6}},
        {"a": {"inputs": [1.0] * 3}},
        {"a": {"inputs": [1.0] * 8}},
        {"a": {"inputs": []}},
        {"a": {"outputs": [1] * 6}},
    ],
)
def test_anything_else_is_refused(data: Any) -> None:
    with pytest.raises(ArtifactError):
        parse_adjustments(data, {"a": Source((6, 2, 3, 3), "weight", None)})

"""Rows drawn from a layer's inputs, against the layer itself."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torchcompress.quantization.program import Op
from torchcompress.quantization.ptq.rows import input_rows, weight_rows


def conv(**settings: Any) -> tuple[nn.Module, Op, Tensor]:
    layer = nn.Conv2d(4, 6, (3, 2), bias=False, **settings)
    args = {
        "stride": list(layer.stride),
        "padding": [int(p) for p in layer.padding],
        "dilation": list(layer.dilation),
        "groups": layer.groups,
    }
    return layer, Op("conv2d", "v1", ("v0",), args, "l"), torch.randn(3, 4, 9, 8)


LINEAR = (nn.Linear(5, 7, bias=False), Op("linear", "v1", ("v0",), {}, "l"), torch.randn(3, 6, 5))


@pytest.mark.parametrize(
    ("layer", "op", "x"),
    [
        conv(),
        conv(stride=2, padding=1),
        conv(dilation=2, padding=(2, 0)),
        conv(groups=2, stride=(1, 2)),
        LINEAR,
    ],
)
def test_weight_times_rows_are_the_outputs(layer: nn.Module, op: Op, x: Tensor) -> None:
    """All places are drawn, so that both hold the same numbers."""
    weight = layer.state_dict()["weight"]
    rows = input_rows(op, tuple(weight.shape[2:]), [x, x], 10**6, seed=0)
    made = weight_rows(weight, op) @ rows.mT
    y = layer(x)
    channels = y.movedim(1 if op.kind == "conv2d" else -1, 0).flatten(1)
    assert made.shape[2] == 2 * channels.shape[1]
    got, want = made.flatten(0, 1).sort(1).values, torch.cat([channels] * 2, 1).sort(1).values
    torch.testing.assert_close(got, want)


def test_fewer_places_are_drawn_alike_for_a_seed() -> None:
    _, op, x = conv()
    one, two, other = (input_rows(op, (3, 2), [x], 30, seed=seed) for seed in (0, 0, 1))
    assert one.shape == (1, 30, 24)
    assert torch.equal(one, two)
    assert not torch.equal(one, other)

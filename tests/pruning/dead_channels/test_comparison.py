import copy

import torch
from torch import nn

from torchcompress.graph import trace
from torchcompress.pruning.dead_channels.comparison import compare_models

x = torch.zeros(2, 4)


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def test_equal_models_differ_by_nothing() -> None:
    assert compare_models(model(), model(), x, trace(model(), x)) == (0.0, None)


def test_what_only_noise_shows_is_found() -> None:
    other = copy.deepcopy(model())
    other.get_parameter("0.weight").data[0, 0] += 1
    difference, failure = compare_models(model(), other, x, trace(model(), x))
    assert difference > 1e-3
    assert failure is not None


def test_rounding_is_told_from_a_difference() -> None:
    big = model()
    big.get_parameter("2.bias").data += 1e4
    other = copy.deepcopy(big)
    for name in ("0.weight", "0.bias"):
        other.get_parameter(name).data *= 3
    other.get_parameter("2.weight").data /= 3
    assert compare_models(big, other, x, trace(big, x))[1] is None

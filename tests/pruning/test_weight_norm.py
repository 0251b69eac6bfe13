"""Weights that are computed from other tensors."""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from torchcompress import Target
from torchcompress.pruning import plan_channels

x = torch.randn(2, 3, 8, 8)
Wrap = Callable[[nn.Module], nn.Module]


def net(wrap: Wrap) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        wrap(nn.Conv2d(3, 16, 3)),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        wrap(nn.Conv2d(16, 16, 3)),
        nn.ReLU(),
        wrap(nn.ConvTranspose2d(16, 16, 2)),
        nn.Conv2d(16, 4, 1),
    ).eval()


def of_old(name: str, **options: Any) -> Wrap:
    def wrap(module: nn.Module) -> nn.Module:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            return getattr(nn.utils, name)(module, **options)

    return wrap


NORMED = {"parametrized": parametrizations.weight_norm, "hooked": of_old("weight_norm")}


@pytest.mark.parametrize("wrap", NORMED.values(), ids=NORMED.keys())
def test_under_weight_norm_what_is_left_keeps_its_values(wrap: Wrap) -> None:
    model = net(wrap)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("original0", "weight_g")):
                parameter.mul_(torch.rand_like(parameter) + 0.5)
    plan = plan_channels(model, x, Target(channels=0.5), round_to=1)
    assert {g.name: g.kept for g in plan.groups if not g.frozen} == {"0": 8, "3": 8, "5": 8}
    assert plan.inexact == {}
    assert plan.mends["3"] == {"in_channels": 8, "out_channels": 8}
    found = plan.apply(model)
    model(x)  # The older form computes its weights when it is called.
    found(x)
    for layer, (rows, columns) in {"0": (0, 1), "3": (0, 1), "5": (1, 0), "6": (0, 1)}.items():
        above = {"0": None, "3": "0", "5": "3", "6": "5"}[layer]
        weight = weight_of(model, layer)
        if above is not None:
            weight = without(weight, columns, plan.removed[f"{above}.bias"][0])
        if layer != "6":
            weight = without(weight, rows, plan.removed[f"{layer}.bias"][0])
        assert torch.allclose(weight_of(found, layer), weight, atol=1e-6)


def weight_of(model: nn.Module, layer: str) -> Tensor:
    weight = model.get_submodule(layer).weight
    assert isinstance(weight, Tensor)
    return weight


def without(weight: Tensor, dim: int, gone: list[int]) -> Tensor:
    keep = [index for index in range(weight.shape[dim]) if index not in gone]
    return weight.index_select(dim, torch.tensor(keep))


WHOLE = {
    "spectral": parametrizations.spectral_norm,
    "spectral, hooked": of_old("spectral_norm"),
    "no dimension": partial(parametrizations.weight_norm, dim=-1),
    "no dimension, hooked": of_old("weight_norm", dim=-1),
}


@pytest.mark.parametrize("wrap", WHOLE.values(), ids=WHOLE.keys())
def test_a_norm_of_the_whole_weight_freezes_it(wrap: Wrap) -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 16, 1), nn.Conv2d(16, 16, 1), wrap(nn.Conv2d(16, 16, 1)), nn.Conv2d(16, 4, 1)
    ).eval()
    plan = plan_channels(model, x, Target(channels=0.5))
    assert {group.name for group in plan.groups if not group.frozen} == {"0"}
    assert "is divided by a norm of the whole weight" in plan.frozen.values()
    assert plan.apply(model)(x).shape == (2, 4, 8, 8)

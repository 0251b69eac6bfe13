"""Compiled and parallel models are pruned as the model inside; scripted ones are refused."""

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import nn

import torchcompress as tc
from torchcompress.errors import UnsupportedError

Wrap = Callable[[nn.Module], nn.Module]

x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
half = tc.Target(channels=0.5)


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 4, 3))


def compiled(model: nn.Module) -> nn.Module:
    wrapper = torch.compile(model, backend="eager")
    assert isinstance(wrapper, nn.Module)
    return wrapper


@pytest.mark.parametrize("wrap", [compiled, nn.DataParallel])
def test_a_wrapper_is_planned_and_cut_as_the_model_inside(wrap: Wrap) -> None:
    model = net()
    wrapper = wrap(model)
    before = wrapper(x).shape
    plan = tc.plan_channels(wrapper, x, half)
    assert plan == tc.plan_channels(model, x, half)
    copy = plan.apply(wrapper)
    assert type(copy) is nn.Sequential
    assert plan.apply(wrapper, inplace=True) is wrapper
    assert model.get_submodule("0").out_channels == 8
    assert wrapper(x).shape == before
    assert torch.allclose(wrapper(x), copy(x), atol=1e-6)
    assert tc.history(wrapper) == (plan,)


@pytest.mark.parametrize("inplace", [True, False])
def test_a_compiled_model_is_fitted_as_the_model_inside(inplace: bool) -> None:
    pruned = tc.prune_channels(net(), x, half, calibration=[x])
    wrapper = compiled(net())
    fitted = tc.prune_channels(wrapper, x, half, calibration=[x], inplace=inplace)
    assert (fitted is wrapper) == inplace
    assert torch.allclose(fitted(x), pruned(x), atol=1e-6)


def test_a_model_compiled_in_place_is_pruned() -> None:
    model = net()
    model.compile(backend="eager")
    pruned = tc.prune_channels(model, x, half)
    assert torch.allclose(pruned(x), tc.prune_channels(net(), x, half)(x), atol=1e-6)


@pytest.mark.usefixtures("process_group")
def test_distributed_data_parallel_is_cut_inside_a_copy_only() -> None:
    wrapper = nn.parallel.DistributedDataParallel(net())
    plan = tc.plan_channels(wrapper, x, half)
    assert torch.allclose(plan.apply(wrapper)(x), plan.apply(net())(x), atol=1e-6)
    with pytest.raises(UnsupportedError, match=r"cut model\.module"):
        plan.apply(wrapper, inplace=True)
    plan.apply(wrapper.module, inplace=True)
    nn.parallel.DistributedDataParallel(wrapper.module)(x).sum().backward()


class Scripted(torch.jit.ScriptModule):
    def __init__(self) -> None:
        super().__init__()
        self.inner = net()


def test_a_scripted_model_is_refused() -> None:
    with warnings.catch_warnings(action="ignore", category=FutureWarning):
        model = Scripted()
    with pytest.raises(UnsupportedError, match="scripted"):
        tc.plan_channels(model, x, half)
    with pytest.raises(UnsupportedError, match="scripted"):
        tc.plan_channels(net(), x, half).apply(model)

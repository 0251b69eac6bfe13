"""Zeros of weight pruning in what comes after: fits, averages, resumed runs."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import torchcompress as tc
from torchcompress.errors import CalibrationError, CompressError


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3)
    )


def batches() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(64, 6, generator=generator) for _ in range(4)]


def test_a_fit_after_a_channel_cut_revives_no_zero() -> None:
    sparse = tc.sparsify(network(), tc.Target(sparsity=0.6), batches())
    fitted = tc.prune_channels(sparse, batches()[0][:1], tc.Target(macs=0.5), calibration=batches())
    cut = tc.history(fitted)[-1].apply(sparse)
    for name, weight in cut.named_parameters():
        if weight.dim() > 1:
            assert (fitted.get_parameter(name)[weight == 0] == 0).all(), name


def test_zeros_that_are_there_go_before_weights_that_nothing_hears() -> None:
    model = network()
    with torch.no_grad():
        model.get_parameter("0.bias")[:6] = -3
        model.get_parameter("2.weight")[8:] = 0
    calm = [0.1 * batch for batch in batches()]
    there = sum(int((p == 0).sum()) for p in model.parameters() if p.dim() > 1)
    whole = sum(p.numel() for p in model.parameters() if p.dim() > 1)
    target = there / whole + 0.01
    sparse = tc.sparsify(model, tc.Target(sparsity=target), calm)
    (plan,) = tc.history(sparse)
    assert isinstance(plan, tc.SparsityPlan)
    assert plan.sparsity == pytest.approx(target, abs=1 / whole)


@pytest.mark.parametrize("change", ["forward", "activation"])
def test_the_file_of_another_run_is_refused(tmp_path: Path, change: str) -> None:
    model, target = network(), tc.Target(sparsity=0.5)
    tc.sparsify(model, target, batches(), resume=tmp_path / "file")
    again = tc.sparsify(model, target, batches(), resume=tmp_path / "file")
    fresh = tc.sparsify(model, target, batches())
    assert all(
        torch.equal(a, b) for a, b in zip(again.parameters(), fresh.parameters(), strict=True)
    )
    other = copy.deepcopy(model)
    if change == "activation":
        other[1] = nn.Tanh()
    forward = (lambda m, x: m(x * 0.01 + 3)) if change == "forward" else None
    with pytest.raises(CompressError, match="another model"):
        tc.sparsify(other, target, batches(), resume=tmp_path / "file", forward=forward)


def test_an_average_remembers_its_zeros() -> None:
    model = network()
    average, optimizer = copy.deepcopy(model), torch.optim.SGD(model.parameters(), lr=0.1)
    pruner = tc.MagnitudePruner(model, tc.Target(sparsity=0.5)).attach(optimizer, ema=average)
    model(batches()[0]).sum().backward()
    optimizer.step()
    plan = pruner.finalize()
    assert tc.history(average) == (plan,)


def test_bad_arguments_are_named(tmp_path: Path) -> None:
    model, target = network(), tc.Target(sparsity=0.5)
    with pytest.raises(CompressError, match="is no target"):
        tc.sparsify(model, 0.5, batches())  # pyright: ignore[reportArgumentType]
    with pytest.raises(CompressError, match="no folder"):
        tc.sparsify(model, target, batches(), resume=tmp_path / "none" / "file")
    with pytest.raises(CalibrationError, match="batch 1: it holds no samples"):
        tc.sparsify(model, target, [batches()[0], torch.randn(0, 6)])
    with pytest.raises(CompressError, match="resume: keeps layers"):
        tc.prune_channels(model, batches()[0], tc.Target(macs=0.5), resume=tmp_path / "file")


def test_silent_layers_and_few_samples_are_ranked() -> None:
    model = network()
    with torch.no_grad():
        model.get_parameter("0.bias").sub_(99)
    one = [batch[:1] for batch in batches()]
    for samples in (batches(), one):
        small = tc.prune_channels(model, batches()[0][:1], tc.Target(macs=0.5), calibration=samples)
        assert small(batches()[0]).isfinite().all()

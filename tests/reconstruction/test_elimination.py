import itertools

import pytest
import torch
from torch import Tensor

from torchcompress.reconstruction import elimination
from torchcompress.reconstruction.elimination import Elimination
from torchcompress.reconstruction.statistics import Moments

torch.manual_seed(0)
CHANNELS, KERNEL, OUTPUTS, ROWS = 5, 2, 3, 60


@pytest.fixture(autouse=True)
def no_damping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elimination, "DAMPING", 1e-12)
    torch.manual_seed(0)


def layer(groups: int) -> tuple[Tensor, Tensor, Moments]:
    """Returns inputs that depend on each other, weights, and the moments of both."""
    columns = CHANNELS * KERNEL
    x = torch.randn(groups, ROWS, columns).double() @ torch.randn(groups, columns, columns).double()
    weight = torch.randn(groups, OUTPUTS, columns).double()
    sums = Moments.zeros(groups, columns, OUTPUTS, x.device)
    sums.add(x, x @ weight.mT)
    return x, weight, sums


def least_error(x: Tensor, weight: Tensor, gone: list[int]) -> float:
    """Returns the error of a dense solve without some channels."""
    left = [c for c in range(x.shape[2]) if c % CHANNELS not in gone]
    wanted = x @ weight.mT
    found = torch.linalg.lstsq(x[:, :, left], wanted).solution
    return float((x[:, :, left] @ found - wanted).square().sum())


@pytest.mark.parametrize("groups", [1, 2])
def test_costs_are_those_of_dense_solves_one_unit_after_the_other(groups: int) -> None:
    x, weight, sums = layer(groups)
    cut = Elimination(weight, sums, KERNEL, torch.arange(CHANNELS)[:, None])
    energy, before, gone = float(sums.yy.sum()), 0.0, list[int]()
    for unit in (3, 0, 4):
        left = [u for u in range(CHANNELS) if u not in gone]
        costs = dict(zip(left, cut.costs(torch.tensor(left)).tolist(), strict=True))
        for other in left:
            brute = least_error(x, weight, [*gone, other]) - before
            assert costs[other] * energy == pytest.approx(brute, rel=1e-5)
        cut.remove(torch.tensor([unit]))
        gone.append(unit)
        before = least_error(x, weight, gone)
    columns = [c for c in range(CHANNELS * KERNEL) if c % CHANNELS in gone]
    assert not cut.weight[:, :, columns].any()
    found = float((x @ (cut.weight - weight).mT).square().sum())
    assert found == pytest.approx(before, rel=1e-5)


def test_units_that_go_together_leave_the_optimum_too() -> None:
    x, weight, sums = layer(1)
    one = Elimination(weight, sums, KERNEL, torch.arange(CHANNELS)[:, None])
    one.remove(torch.tensor([1, 4]))
    pairs = Elimination(weight, sums, KERNEL, torch.tensor([[1, 4], [0, 2]]))
    cost = pairs.costs(torch.tensor([0])) * sums.yy.sum()
    pairs.remove(torch.tensor([0]))
    assert torch.allclose(one.weight, pairs.weight, atol=1e-6)
    assert float(cost) == pytest.approx(least_error(x, weight, [1, 4]), rel=1e-5)


def test_the_first_unit_is_the_best_of_all() -> None:
    x, weight, sums = layer(1)
    cut = Elimination(weight, sums, KERNEL, torch.arange(CHANNELS)[:, None])
    first = int(cut.costs(torch.arange(CHANNELS)).argmin())
    assert first == min(range(CHANNELS), key=lambda unit: least_error(x, weight, [unit]))


def test_what_other_channels_repeat_costs_nothing() -> None:
    x, weight, _ = layer(1)
    x = x.clone()
    x[:, :, 2::CHANNELS] = 2 * x[:, :, 1::CHANNELS] - x[:, :, 0::CHANNELS]
    sums = Moments.zeros(1, CHANNELS * KERNEL, OUTPUTS, x.device)
    sums.add(x, x @ weight.mT)
    cut = Elimination(weight, sums, KERNEL, torch.arange(CHANNELS)[:, None])
    costs = cut.costs(torch.arange(CHANNELS))
    assert set(costs.argsort()[:3].tolist()) == {0, 1, 2}
    assert float(costs[2]) < 1e-6 < 1e-3 < float(costs[3])


def test_dead_columns_are_left_alone() -> None:
    x, weight, _ = layer(1)
    x = x.clone()
    x[:, :, :CHANNELS] = 0
    sums = Moments.zeros(1, CHANNELS * KERNEL, OUTPUTS, x.device)
    sums.add(x, x @ weight.mT)
    cut = Elimination(weight, sums, KERNEL, torch.arange(CHANNELS)[:, None])
    cost = float(cut.costs(torch.tensor([1])) * sums.yy.sum())
    assert cost == pytest.approx(least_error(x[:, :, CHANNELS:], weight[:, :, CHANNELS:], [1]))
    cut.remove(torch.tensor([1]))
    assert torch.equal(cut.weight[:, :, :CHANNELS], weight[:, :, :CHANNELS])


def test_a_wide_layer_counts_what_its_own_columns_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elimination, "WIDEST_DOUBLE", 4)
    x, weight, sums = layer(1)
    cut = Elimination(weight, sums, KERNEL, torch.arange(CHANNELS)[:, None])
    for unit, cost in enumerate(cut.costs(torch.arange(CHANNELS)).tolist()):
        own = slice(unit, None, CHANNELS)
        lost = float((x[:, :, own] @ weight[:, :, own].mT).square().sum())
        assert cost * float(sums.yy.sum()) == pytest.approx(lost, rel=1e-6)
    cut.remove(torch.tensor([2]))
    left = [c for c in range(CHANNELS * KERNEL) if c % CHANNELS != 2]
    assert torch.equal(cut.weight[:, :, left], weight[:, :, left])


def test_greedy_removal_is_near_the_best_pair() -> None:
    x, weight, sums = layer(1)
    cut = Elimination(weight, sums, KERNEL, torch.arange(CHANNELS)[:, None])
    first = int(cut.costs(torch.arange(CHANNELS)).argmin())
    cut.remove(torch.tensor([first]))
    left = torch.tensor([u for u in range(CHANNELS) if u != first])
    second = int(left[cut.costs(left).argmin()])
    every = [least_error(x, weight, list(p)) for p in itertools.combinations(range(CHANNELS), 2)]
    assert sorted(every).index(least_error(x, weight, sorted([first, second]))) < 3

import pytest
import torch

from torchcompress.reconstruction import solve
from torchcompress.reconstruction.allocation import keep_by_layer
from torchcompress.reconstruction.obs import Tiles
from torchcompress.reconstruction.solve import choose_in_tiles, fit, removal_costs
from torchcompress.reconstruction.statistics import Moments
from torchcompress.reconstruction.support import fit_support

torch.manual_seed(0)

X = torch.randn(1, 200, 12, dtype=torch.float64) @ torch.randn(12, 12).double()
W = torch.randn(1, 4, 12, dtype=torch.float64)
Y = X @ W.mT + 0.1 * torch.randn(1, 200, 4).double()


def moments() -> Moments:
    sums = Moments.zeros(1, 12, 4, torch.device("cpu"))
    sums.add(X, Y)
    return sums


def test_short_supports_are_solved_exactly_and_long_ones_nearly() -> None:
    sums = moments()
    short, long = torch.rand_like(W) < 0.2, torch.rand_like(W) < 0.9
    assert torch.equal(fit(sums, W, short).weight, fit_support(sums, W, short).weight)
    found = fit(sums, W, long)
    assert not found.weight[~long].any()
    best = sums.error(fit_support(sums, W, long).weight).sum()
    assert best <= sums.error(found.weight).sum() <= sums.error(W * long).sum()


def test_the_sweep_lies_between_the_mask_alone_and_the_exact_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sums, kept = moments(), torch.rand_like(W) < 0.6
    exact = fit(sums, W, kept)
    monkeypatch.setattr(solve, "fit_support", solve._fit_by_sweep)
    swept = fit(sums, W, kept)
    alone = sums.error(W * kept)
    assert (sums.error(swept.weight) <= alone).all()
    assert sums.error(exact.weight).sum() <= sums.error(swept.weight).sum() * 1.001
    assert sums.error(swept.weight).sum() < alone.sum()


def test_a_row_that_a_fit_makes_worse_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    sums, kept = moments(), torch.ones_like(W, dtype=torch.bool)

    def bad(*_: object, **__: object) -> solve.Fit:
        return solve.Fit(2 * W, W)

    monkeypatch.setattr(solve, "fit_support", bad)
    monkeypatch.setattr(solve, "_fit_by_sweep", bad)
    assert torch.equal(fit(sums, W, kept).weight, W)


def test_removal_costs_are_those_of_the_best_update(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solve, "SMALL", 0)
    sums = moments()
    sums.xy = sums.xx @ W.mT  # The outputs are those of W itself.
    sums.yy = ((W @ sums.xx) * W).sum(2)
    found = removal_costs(sums, W, damping=1e-9)
    for column in range(12):
        kept = torch.ones_like(W, dtype=torch.bool)
        kept[:, :, column] = False
        error = sums.error(fit_support(sums, W, kept, damping=1e-9).weight)
        assert torch.allclose(found[:, :, column], error, rtol=1e-3)


def test_what_stands_for_each_other_is_not_cheap_together() -> None:
    x = torch.randn(1, 50, 3).double()
    rows = torch.cat([x, x], 2)
    sums = Moments.zeros(1, 6, 1, torch.device("cpu"))
    weight = torch.rand(1, 1, 6).double() + 1
    sums.add(rows, rows @ weight.mT)
    costs = removal_costs(sums, weight, damping=1e-6)[0, 0]
    cheap = costs < 0.01 * costs.max()
    assert torch.equal(cheap[:3], ~cheap[3:])


def test_n_of_m_are_chosen_with_less_error_than_by_single_costs() -> None:
    sums, every = moments(), torch.ones_like(W, dtype=torch.bool)
    chosen = choose_in_tiles(sums, W, every, Tiles(1, 4, 2))
    assert (chosen.unflatten(2, (3, 4)).sum(3) == 2).all()
    magnitude = keep_by_layer({"": W.abs()}, 0.5, Tiles(1, 4, 2))[""]
    ours, plain = (sums.error(fit_support(sums, W, k).weight).sum() for k in (chosen, magnitude))
    assert ours < plain
    every[:, :, 0] = False
    assert not choose_in_tiles(sums, W, every, Tiles(1, 4, 2))[:, :, 0].any()

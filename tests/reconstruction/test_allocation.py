import itertools

import pytest
import torch

from torchcompress.reconstruction.allocation import keep_by_layer, keep_dearest, tiled
from torchcompress.reconstruction.obs import Tiles

torch.manual_seed(0)

COST = {"a": torch.rand(2, 2, 4), "b": 3 * torch.rand(1, 4, 4)}
TOTAL = 32


@pytest.mark.parametrize("removed", [0, 1, 13, 30])
def test_what_stays_is_what_costs_most(removed: int) -> None:
    kept = keep_dearest(COST, removed)
    flat = sorted(float(v) for name in COST for v in COST[name][kept[name]])
    gone = sorted(float(v) for name in COST for v in COST[name][~kept[name]])
    assert len(gone) == removed
    assert not gone or removed == 30 or gone[-1] <= flat[0]


def test_the_threshold_is_the_best_of_all_allocations() -> None:
    removed = 17
    kept = keep_dearest(COST, removed)
    spent = sum(float(COST[name][~kept[name]].sum()) for name in COST)
    cumulative = {name: COST[name].flatten().sort().values.cumsum(0) for name in COST}
    tried = []
    for first, second in itertools.product(range(16), range(16)):
        if first + second == removed:
            parts = zip(cumulative.values(), (first, second), strict=True)
            tried.append(sum(float(curve[n - 1]) if n else 0.0 for curve, n in parts))
    assert spent == pytest.approx(min(tried))


def test_every_layer_keeps_its_dearest_weight() -> None:
    kept = keep_dearest({"a": COST["a"] * 1e-6, "b": COST["b"]}, 20)
    assert kept["a"].sum() == 1
    assert kept["a"].flatten()[COST["a"].flatten().argmax()]


def test_equal_costs_go_in_order() -> None:
    kept = keep_dearest({"a": torch.ones(1, 1, 4), "b": torch.ones(1, 1, 4)}, 3)
    assert kept["a"].flatten().tolist() == [True, False, False, False]
    assert kept["b"].all()


def test_tiles_go_by_their_mean_cost() -> None:
    kept = keep_dearest(COST, 8, Tiles(2, 2))
    means = torch.cat([tiled(values, Tiles(2, 2)).flatten() for values in COST.values()])
    blocks = torch.cat([tiled(kept[name].float(), Tiles(2, 2)).flatten() for name in COST])
    assert sorted(set(blocks.tolist())) == [0, 1]
    assert sorted(means[blocks == 0].tolist()) == means.sort().values[:2].tolist()


def test_a_layer_alone_loses_its_fraction() -> None:
    kept = keep_by_layer(COST, 0.25)
    assert [int((~mask).sum()) for mask in kept.values()] == [4, 4]


def test_n_of_m_stay_in_every_group() -> None:
    kept = keep_by_layer(COST, 0.5, Tiles(1, 4, 2))
    for name, values in COST.items():
        best = values.sort(dim=2, descending=True).values[:, :, 1:2]
        assert torch.equal(kept[name], values >= best)

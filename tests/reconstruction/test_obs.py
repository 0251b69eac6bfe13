"""OBS against brute force: least squares on every support that is still possible."""

import pytest
import torch
from torch import Tensor

from torchcompress.reconstruction.gram import damped, inverse
from torchcompress.reconstruction.obs import Tiles, prune, removal_order, saliency

torch.manual_seed(0)

COLUMNS = 8
X = torch.randn(2, 50, COLUMNS, dtype=torch.float64) @ torch.randn(2, COLUMNS, COLUMNS).double()
GRAM = X.mT @ X
WEIGHT = torch.randn(2, 3, COLUMNS, dtype=torch.float64)
ALL = torch.ones_like(WEIGHT, dtype=torch.bool)


def best_on(row: Tensor, gram: Tensor, support: list[int]) -> tuple[Tensor, float]:
    """Returns the row of least squared error on a support, and that error."""
    found = torch.zeros_like(row)
    if support:
        part = gram[support]
        found[support] = torch.linalg.solve(part[:, support], part @ row)
    change = found - row
    return found, float(change @ gram @ change)


def test_the_removal_order_is_that_of_brute_force() -> None:
    step, cost = removal_order(WEIGHT, inverse(GRAM))
    fixed = damped(GRAM)
    for group in range(2):
        for output in range(3):
            row, gram = WEIGHT[group, output], fixed[group]
            support, spent = list(range(COLUMNS)), 0.0
            for index in range(COLUMNS):
                tried = {j: best_on(row, gram, [k for k in support if k != j])[1] for j in support}
                column = min(tried, key=lambda j: tried[j])
                assert step[group, output, column] == index
                assert float(cost[group, output, column]) == pytest.approx(tried[column] - spent)
                support.remove(column)
                spent = tried[column]


def test_the_saliency_is_what_one_removal_costs() -> None:
    found = saliency(WEIGHT, inverse(GRAM))
    for column in range(COLUMNS):
        support = [j for j in range(COLUMNS) if j != column]
        _, error = best_on(WEIGHT[1, 2], damped(GRAM)[1], support)
        assert float(found[1, 2, column]) == pytest.approx(error)


def test_zeros_are_removed_first_and_cost_nothing() -> None:
    weight = WEIGHT.clone()
    weight[:, :, [2, 5]] = 0
    step, cost = removal_order(weight, inverse(GRAM))
    assert step[:, :, [2, 5]].max() == 1
    assert torch.count_nonzero(cost[:, :, [2, 5]]) == 0


def one_by_one(weight: Tensor, gram: Tensor, kept: Tensor) -> Tensor:
    """Goes through the columns; each removal is undone as well as the columns after it can."""
    fixed, result = damped(gram), weight.clone()
    for group in range(len(weight)):
        for output in range(weight.shape[1]):
            row = weight[group, output].clone()
            for column in range(COLUMNS):
                if kept[group, output, column]:
                    continue
                free = list(range(column, COLUMNS))
                rest = torch.linalg.inv(fixed[group][free][:, free])
                row[free] -= row[column] / rest[0, 0] * rest[0]
                row[column] = 0
            result[group, output] = row
    return result


@pytest.mark.parametrize("block", [1, 3, 128])
def test_blocks_equal_removal_column_by_column(block: int) -> None:
    kept = torch.rand_like(WEIGHT) < 0.5
    found = prune(WEIGHT, inverse(GRAM), kept, block=block)
    assert torch.allclose(found, one_by_one(WEIGHT, GRAM, kept))
    assert not found[~kept].any()


def test_the_update_lowers_the_error_of_the_mask_alone_on_average() -> None:
    after, before = 0.0, 0.0
    for kept in torch.rand(20, *WEIGHT.shape) < 0.5:
        after += float((X @ (prune(WEIGHT, inverse(GRAM), kept) - WEIGHT).mT).square().sum())
        before += float((X @ (WEIGHT * kept - WEIGHT).mT).square().sum())
    assert after < before


@pytest.mark.parametrize(("kept", "of"), [(2, 4), (1, 4), (1, 2)])
@pytest.mark.parametrize("block", [4, 128, 5])
def test_n_of_m_holds_in_every_group(kept: int, of: int, block: int) -> None:
    found = prune(WEIGHT, inverse(GRAM), ALL, tiles=Tiles(1, of, kept), block=block)
    assert (found.unflatten(2, (-1, of)) != 0).sum(3).eq(kept).all()


def test_the_first_n_of_m_are_those_that_cost_least() -> None:
    found = prune(WEIGHT, inverse(GRAM), ALL, tiles=Tiles(1, 4, 2))
    upper = torch.linalg.cholesky(inverse(GRAM), upper=True)
    prices = (WEIGHT[:, :, :4] / upper.diagonal(dim1=1, dim2=2)[:, None, :4]).square()
    third = prices.sort(2).values[:, :, 2:3]
    assert torch.equal(found[:, :, :4] != 0, prices >= third)


def test_zeros_stay_zero() -> None:
    weight = WEIGHT.clone()
    weight[:, :, 5] = 0
    for tiles in (None, Tiles(1, 4, 3)):
        assert not prune(weight, inverse(GRAM), ALL, tiles=tiles)[:, :, 5].any()


def test_dead_inputs_move_nothing() -> None:
    rows = X.clone()
    rows[:, :, 3] = 0
    kept = torch.ones_like(WEIGHT, dtype=torch.bool)
    kept[:, :, 3] = False
    found = prune(WEIGHT, inverse(rows.mT @ rows), kept)
    assert torch.allclose(found, WEIGHT * kept)

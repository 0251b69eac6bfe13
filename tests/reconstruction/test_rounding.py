from itertools import product

import pytest
import torch
from torch import Tensor

from torchcompress.errors import CalibrationError, CompressError
from torchcompress.reconstruction.gram import damped
from torchcompress.reconstruction.rounding import round_weights

torch.manual_seed(0)

COLUMNS = 5
X = torch.randn(2, 40, COLUMNS, dtype=torch.float64) @ torch.randn(2, COLUMNS, COLUMNS).double()
GRAM = X.mT @ X
WEIGHT = torch.randn(2, 3, COLUMNS, dtype=torch.float64)
SCALE = WEIGHT.abs().amax(2) / 3


def error(integers: Tensor, weight: Tensor = WEIGHT) -> Tensor:
    change = integers.double() * SCALE[:, :, None] - weight
    return (X @ change.mT).square().sum(1)


def plain(weight: Tensor) -> Tensor:
    return (weight / SCALE[:, :, None]).round().clamp(-127, 127)


def brute_force(group: int, output: int) -> float:
    """Returns the least squared error of all points of the grid."""
    grid = torch.cartesian_prod(*[torch.arange(-5.0, 6.0).double()] * COLUMNS)
    change = grid * SCALE[group, output] - WEIGHT[group, output]
    return float(((change @ GRAM[group]) * change).sum(1).min())


def test_it_lies_between_brute_force_and_plain_rounding() -> None:
    found = error(round_weights(WEIGHT, GRAM, SCALE))
    assert (found <= error(plain(WEIGHT)) + 1e-9).all()
    assert found.sum() < error(plain(WEIGHT)).sum()
    for group, output in product(range(2), range(3)):
        assert float(found[group, output]) >= brute_force(group, output) - 1e-9


def one_by_one(weight: Tensor, gram: Tensor, scale: float) -> Tensor:
    """Rounds the columns of a row in the order of their energy; the free ones make up for it."""
    fixed, row = damped(gram[None])[0], weight.clone()
    free = gram.diagonal().argsort(descending=True).tolist()
    result = torch.zeros_like(row)
    while free:
        column = free[0]
        result[column] = 0 if weight[column] == 0 else (row[column] / scale).round()
        rest = torch.linalg.inv(fixed[free][:, free])
        row[free] -= (row[column] - result[column] * scale) / rest[0, 0] * rest[0]
        free = free[1:]
    return result


@pytest.mark.parametrize("block", [1, 2, 128])
def test_feedback_equals_the_definition(block: int) -> None:
    weight = WEIGHT.clone()
    weight[:, :, 2] = 0
    found = round_weights(weight, GRAM, SCALE, block=block).double()
    for group, output in product(range(2), range(3)):
        fed = one_by_one(weight[group, output], GRAM[group], float(SCALE[group, output]))
        wins = error(fed.expand_as(weight), weight) < error(plain(weight), weight)
        expected = fed if wins[group, output] else plain(weight)[group, output]
        assert torch.equal(found[group, output], expected)


def test_zeros_stay_zero_and_the_range_holds() -> None:
    weight = WEIGHT.clone()
    weight[:, 1] = 0
    found = round_weights(weight, GRAM, SCALE / 1000)
    assert found.dtype == torch.int8
    assert not found[:, 1].any()
    assert int(found.int().abs().max()) == 127


def test_uncorrelated_inputs_are_rounded_plainly() -> None:
    identity = torch.eye(COLUMNS).double().expand(2, -1, -1)
    assert torch.equal(round_weights(WEIGHT, identity, SCALE).double(), plain(WEIGHT))


def test_dead_inputs_do_not_matter() -> None:
    assert torch.equal(round_weights(WEIGHT, 0 * GRAM, SCALE).double(), plain(WEIGHT))


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(CompressError, match=r"gram: has the shape \(1, 5, 5\), and \(2, 5, 5\)"):
        round_weights(WEIGHT, GRAM[:1], SCALE)
    with pytest.raises(CompressError, match="scale: has the shape"):
        round_weights(WEIGHT, GRAM, SCALE[0])
    with pytest.raises(CompressError, match="scale: is not above 0"):
        round_weights(WEIGHT, GRAM, 0 * SCALE)
    with pytest.raises(CalibrationError, match="not finite"):
        round_weights(WEIGHT, GRAM * float("nan"), SCALE)

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from torchcompress.reconstruction import support
from torchcompress.reconstruction.statistics import Moments
from torchcompress.reconstruction.support import fit_support

torch.manual_seed(0)

X = torch.randn(2, 60, 7, dtype=torch.float64)
Y = torch.randn(2, 60, 3, dtype=torch.float64)
PRIOR = torch.randn(2, 3, 7, dtype=torch.float64)
KEPT = torch.rand_like(PRIOR) < 0.5
KEPT[0, 0] = False
KEPT[1, 1] = True


def moments(x: Tensor = X) -> Moments:
    sums = Moments.zeros(2, 7, 3, torch.device("cpu"))
    sums.add(x, Y)
    return sums


def solved(group: int, output: int, inside: Tensor, damping: float) -> tuple[Tensor, float]:
    """Returns the row that the damped normal equations give on a support, and its damped error."""
    gram, prior = X[group].T @ X[group], PRIOR[group, output]
    energy = damping * gram.diagonal().mean()
    right = X[group].T @ Y[group, :, output] + energy * prior
    row = torch.zeros(7).double()
    row[inside] = torch.linalg.solve(
        (gram + energy * torch.eye(7))[inside][:, inside], right[inside]
    )
    error = (X[group] @ row - Y[group, :, output]).square().sum()
    return row, float(error + energy * (row - prior).square().sum())


@pytest.mark.parametrize("damping", [1e-6, 0.1])
@pytest.mark.parametrize("chunk", [1, 1 << 24])
def test_it_equals_the_normal_equations_of_each_row(
    damping: float, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(support, "CHUNK", chunk)
    found = fit_support(moments(), PRIOR, KEPT, damping=damping)
    for group in range(2):
        for output in range(3):
            row, _ = solved(group, output, KEPT[group, output], damping)
            assert torch.allclose(found.weight[group, output], row)


def test_the_saliency_is_what_brute_force_removal_costs() -> None:
    found = fit_support(moments(), PRIOR, KEPT, damping=0.1)
    for group in range(2):
        for output in range(3):
            inside = KEPT[group, output]
            _, error = solved(group, output, inside, 0.1)
            for column in range(7):
                fewer = inside.clone()
                fewer[column] = False
                _, more = solved(group, output, fewer, 0.1)
                value = float(found.saliency[group, output, column])
                assert value == pytest.approx(more - error, abs=1e-9)


def test_dead_inputs_keep_their_weight() -> None:
    x = X.clone()
    x[:, :, 2] = 0
    found = fit_support(moments(x), PRIOR, torch.ones_like(KEPT))
    assert torch.allclose(found.weight[:, :, 2], PRIOR[:, :, 2])


def test_no_inputs_at_all_give_the_prior() -> None:
    assert torch.allclose(fit_support(moments(0 * X), PRIOR, KEPT).weight, PRIOR * KEPT)


def test_moments_that_are_rounding_errors_alone_come_to_an_end() -> None:
    noise = torch.randn(2, 7, 7, dtype=torch.float64)
    noise = (noise + noise.mT) * 1e-9
    noise.diagonal(dim1=1, dim2=2).fill_(-1e-14)
    found = fit_support(replace(moments(), xx=noise), PRIOR, KEPT)
    assert found.weight.isfinite().all()
    assert not found.weight[~KEPT].any()

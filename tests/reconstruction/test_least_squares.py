import pytest
import torch
from torch import Tensor

from torchcompress.reconstruction.least_squares import Affine, best_fit, ridge_solution
from torchcompress.reconstruction.statistics import Moments

torch.manual_seed(0)
X = torch.randn(200, 5) + 1
Y = X @ torch.randn(5, 3) + 2 + 0.1 * torch.randn(200, 3)
PRIOR = torch.randn(3, 5)


def moments(x: Tensor, y: Tensor, batches: int = 1) -> Moments:
    sums = Moments.zeros(1, x.shape[1], y.shape[1], x.device)
    for part, out in zip(x.chunk(batches), y.chunk(batches), strict=True):
        sums.add(part[None].double(), out[None].double())
    return sums


def fitted(batches: int, ridge: float, *, intercept: bool) -> tuple[Tensor, Tensor]:
    found = ridge_solution(moments(X, Y, batches), PRIOR[None], ridge, intercept=intercept)
    return found.weight[0], torch.zeros(3) if found.constant is None else found.constant[0]


@pytest.mark.parametrize("intercept", [True, False])
def test_it_equals_a_dense_solve(intercept: bool) -> None:
    weight, constant = fitted(4, 1e-12, intercept=intercept)
    ones = torch.full((200, 1), float(intercept), dtype=torch.float64)
    design = torch.cat([X.double(), ones], 1)
    solution = torch.linalg.lstsq(design, Y.double(), driver="gelsd").solution
    assert torch.allclose(weight.T, solution[:5], atol=1e-5)
    assert torch.allclose(constant.double(), solution[5], atol=1e-5)


def test_the_ridge_minimizes_the_damped_error() -> None:
    ridge = 0.3
    centered_x, centered_y = (X - X.mean(0)).double(), (Y - Y.mean(0)).double()
    damping = ridge * centered_x.square().sum(0).mean()
    at = fitted(4, ridge, intercept=True)[0].clone().requires_grad_()
    error = (centered_x @ at.T - centered_y).square().sum()
    error = error + damping * (at - PRIOR.double()).square().sum()
    (gradient,) = torch.autograd.grad(error, at)
    assert gradient.abs().max() < 1e-3


def test_each_group_is_solved_by_itself() -> None:
    x, y = torch.randn(2, 50, 4, dtype=torch.float64), torch.randn(2, 50, 3, dtype=torch.float64)
    sums = Moments.zeros(2, 4, 3, x.device)
    sums.add(x, y)
    found = ridge_solution(sums, torch.zeros(2, 3, 4), 1e-12, intercept=False)
    for group in range(2):
        alone = torch.linalg.lstsq(x[group], y[group]).solution
        assert torch.allclose(found.weight[group].T, alone, atol=1e-6)


def test_batches_do_not_matter() -> None:
    one, many = fitted(1, 0.1, intercept=True), fitted(5, 0.1, intercept=True)
    assert torch.allclose(one[0], many[0], atol=1e-6)
    assert torch.allclose(one[1], many[1], atol=1e-6)


def test_an_input_that_never_varies_keeps_its_weight() -> None:
    sums = moments(torch.cat([X, torch.full((200, 1), 3.0)], 1), Y)
    prior = torch.cat([PRIOR, torch.ones(3, 1)], 1)[None]
    found = ridge_solution(sums, prior, 0.1, intercept=True)
    assert torch.allclose(found.weight[0, :, 5], torch.ones(3).double())


def test_dead_inputs_keep_their_weights_and_the_constant_is_the_mean() -> None:
    found = ridge_solution(
        moments(torch.zeros(4, 5), torch.ones(4, 3)), PRIOR[None], 0.1, intercept=True
    )
    assert torch.equal(found.weight[0], PRIOR.double())
    assert found.constant is not None
    assert torch.allclose(found.constant, torch.ones(1, 3).double())


def test_equal_inputs_are_solved_though_their_products_are_singular() -> None:
    x = torch.cat([X, X], 1)
    found = ridge_solution(moments(x, Y), torch.zeros(1, 3, 10), 1e-15, intercept=True)
    assert found.weight.isfinite().all()
    assert float(moments(x, Y).error(found.weight, found.constant).sum()) < 0.02 * 600


def test_noise_is_met_with_a_strong_ridge_and_signal_with_a_weak_one() -> None:
    prior = Affine(PRIOR[None], torch.zeros(1, 3))
    noise = X @ PRIOR.T + torch.randn(200, 3)
    signal = best_fit(moments(X[:20], Y[:20]), moments(X[20:], Y[20:]), prior, intercept=True)
    assert signal is not None
    every = ridge_solution(moments(X, Y), PRIOR[None], 1e-8, intercept=True)
    assert torch.allclose(signal.weight, every.weight, atol=1e-2)
    few = moments(X[:6], noise[:6])
    found = best_fit(few, moments(X[6:], noise[6:]), prior, intercept=True)
    free = ridge_solution(moments(X, noise), PRIOR[None], 1e-8, intercept=True)
    if found is not None:
        assert (found.weight - PRIOR).norm() < (free.weight - PRIOR).norm() + 1e-9


def test_a_fit_that_does_not_generalize_is_refused() -> None:
    exact = Affine(PRIOR[None], torch.zeros(1, 3))
    clean = X @ PRIOR.T
    noisy = clean[:6] + 10 * torch.randn(6, 3)
    assert best_fit(moments(X[:6], noisy), moments(X, clean), exact, intercept=True) is None

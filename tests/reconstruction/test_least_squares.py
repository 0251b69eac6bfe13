import pytest
import torch

from torchcompress.reconstruction import LeastSquares

torch.manual_seed(0)
X = torch.randn(200, 5) + 1
Y = X @ torch.randn(5, 3) + 2 + 0.1 * torch.randn(200, 3)
PRIOR = torch.randn(3, 5)


def fitted(batches: int, ridge: float, *, intercept: bool) -> tuple[torch.Tensor, torch.Tensor]:
    fit = LeastSquares(5, 3, torch.device("cpu"))
    for x, y in zip(X.chunk(batches), Y.chunk(batches), strict=True):
        fit.add(x, y)
    return fit.solve(PRIOR, ridge, intercept=intercept)


@pytest.mark.parametrize("intercept", [True, False])
def test_it_equals_a_dense_solve(intercept: bool) -> None:
    weight, constant = fitted(4, 1e-12, intercept=intercept)
    ones = torch.full((200, 1), float(intercept), dtype=torch.float64)
    design = torch.cat([X.double(), ones], 1)
    solution = torch.linalg.lstsq(design, Y.double(), driver="gelsd").solution
    assert torch.allclose(weight.T, solution[:5], atol=1e-5)
    assert torch.allclose(constant, solution[5], atol=1e-5)


def test_ridge_minimises_the_damped_error() -> None:
    ridge = 0.3
    centred_x, centred_y = (X - X.mean(0)).double(), (Y - Y.mean(0)).double()
    damping = ridge * centred_x.square().sum(0).mean()
    weight = PRIOR.double().requires_grad_()
    error = (centred_x @ weight.T - centred_y).square().sum()
    solved = fitted(4, ridge, intercept=True)[0]
    at = solved.clone().requires_grad_()
    error = (centred_x @ at.T - centred_y).square().sum()
    error = error + damping * (at - weight.detach()).square().sum()
    (gradient,) = torch.autograd.grad(error, at)
    assert gradient.abs().max() < 1e-3


def test_batches_do_not_matter() -> None:
    one, many = fitted(1, 0.1, intercept=True), fitted(7, 0.1, intercept=True)
    assert torch.allclose(one[0], many[0], atol=1e-6)
    assert torch.allclose(one[1], many[1], atol=1e-6)


def test_an_input_that_never_varies_keeps_its_weight() -> None:
    fit = LeastSquares(6, 3, torch.device("cpu"))
    fit.add(torch.cat([X, torch.full((200, 1), 3.0)], 1), Y)
    prior = torch.cat([PRIOR, torch.ones(3, 1)], 1)
    assert torch.allclose(fit.solve(prior, 0.1, intercept=True)[0][:, 5], torch.ones(3).double())


def test_inputs_that_are_all_zero_give_the_prior() -> None:
    fit = LeastSquares(5, 3, torch.device("cpu"))
    fit.add(torch.zeros(4, 5), torch.ones(4, 3))
    weight, constant = fit.solve(PRIOR, 0.1, intercept=True)
    assert torch.equal(weight, PRIOR.double())
    assert torch.allclose(constant, torch.ones(3).double())

import pytest
import torch

from torchcompress.errors import CalibrationError
from torchcompress.reconstruction.gram import damped, inverse, output_error

torch.manual_seed(0)


def gram_of(rows: torch.Tensor) -> torch.Tensor:
    return (rows.T @ rows)[None]


X = torch.randn(40, 6, dtype=torch.float64)


def test_the_inverse_is_that_of_the_damped_matrix() -> None:
    fixed = gram_of(X)[0] + 0.01 * gram_of(X)[0].diagonal().mean() * torch.eye(6)
    assert torch.allclose(inverse(gram_of(X))[0] @ fixed, torch.eye(6).double(), atol=1e-9)


def test_dead_inputs_and_few_rows_still_have_an_inverse() -> None:
    rows = X[:2].clone()
    rows[:, 3] = 0
    found = inverse(gram_of(rows))
    assert found.isfinite().all()
    assert torch.count_nonzero(found[0, 3]) == 1
    assert torch.equal(damped(torch.zeros(1, 6, 6))[0], torch.eye(6))


def test_a_matrix_that_rounding_made_indefinite_is_damped_more() -> None:
    gram = gram_of(X[:1])
    gram[0] -= 0.03 * gram[0].diagonal().mean() * torch.eye(6)
    assert inverse(gram).isfinite().all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_matrix_that_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(CalibrationError, match="not finite"):
        inverse(torch.full((1, 2, 2), bad))


def test_rounding_errors_about_a_mean_have_a_positive_inverse() -> None:
    noise = torch.randn(6, 6, dtype=torch.float64)
    noise = (noise + noise.T)[None] * 1e-9
    noise.diagonal(dim1=1, dim2=2).fill_(1e-14)
    found = inverse(noise)
    assert found.isfinite().all()
    assert (torch.linalg.eigvalsh(found) > 0).all()
    assert torch.allclose(found, found.mT)


def test_the_output_error_is_that_of_the_rows() -> None:
    weight, dense = torch.randn(2, 1, 3, 6, dtype=torch.float64)
    expected = (X @ (weight - dense)[0].T).square().sum(0)
    assert torch.allclose(output_error(weight, dense, gram_of(X))[0], expected)

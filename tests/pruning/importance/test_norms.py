import numpy as np
import pytest
import torch

from torchcompress.pruning.importance.norms import Norms


@pytest.mark.parametrize("p", [0.1, 0.5, 1, 2, 3, 10, float("inf")])
@pytest.mark.parametrize("factor", [1e-25, 1.0, 1e25])
def test_norms_along_every_dimension_whatever_the_scale(p: float, factor: float) -> None:
    weight = torch.randn(70, 3, 400, generator=torch.Generator().manual_seed(0)) * factor
    norms = Norms({"w": weight}, p)
    for dim in range(3):
        rows = np.moveaxis(weight.double().numpy(), dim, 0).reshape(weight.shape[dim], -1)
        largest = np.abs(rows).max()
        expected = largest * np.array([np.linalg.norm(row / largest, p) for row in rows])
        assert norms.along("w", dim) == pytest.approx(expected, rel=1e-5)


def test_the_norm_of_a_unit_is_that_of_all_its_slices() -> None:
    weight = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    pairs = np.array([[0, 3], [1, 4], [2, 5]])
    for p in (0.2, 1, 2, float("inf")):
        norms, rows = Norms({"w": weight}, p), weight.numpy()
        expected = [np.linalg.norm(rows[pair].ravel(), p) for pair in pairs]
        assert norms.of_units("w", 0, pairs) == pytest.approx(np.array(expected))


def test_a_weight_of_zeros_has_norms_of_zero() -> None:
    assert not Norms({"w": torch.zeros(2, 3)}, 2).along("w", 1).any()

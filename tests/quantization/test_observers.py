import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torchcompress.quantization.observers import RangeObserver, grid_for


@given(low=st.floats(-1e6, 1e6), high=st.floats(-1e6, 1e6))
def test_a_grid_holds_zero_and_its_range(low: float, high: float) -> None:
    low, high = min(low, high), max(low, high)
    grid = grid_for(low, high)
    assert 0 <= grid.zero_point <= 255
    bottom, top = -grid.zero_point * grid.scale, (255 - grid.zero_point) * grid.scale
    slack = grid.scale * 0.5001
    assert bottom - slack <= min(low, 0.0)
    assert top + slack >= max(high, 0.0)


def test_inputs_in_10_to_11() -> None:
    grid = grid_for(10.0, 11.0)
    assert grid.zero_point == 0
    assert grid.scale == pytest.approx(11 / 255)


def observed(x: torch.Tensor) -> RangeObserver:
    observer = RangeObserver()
    for part in x.chunk(3):
        observer.update(part)
    for part in x.chunk(3):
        observer.count(part)
    return observer


def squared_error(x: torch.Tensor, scale: float, zero: int) -> float:
    q = (x / scale + zero).round().clamp(0, 255)
    return ((q - zero) * scale - x).square().sum().item()


def test_clipping_lowers_the_squared_error_of_outliers() -> None:
    x = torch.cat([torch.randn(200_000), torch.tensor([30.0, -30.0])])
    grid, whole = observed(x).grid(), grid_for(-30.0, 30.0)
    assert grid.scale < whole.scale
    assert squared_error(x, grid.scale, grid.zero_point) < 0.8 * squared_error(
        x, whole.scale, whole.zero_point
    )


def test_an_even_spread_is_not_clipped() -> None:
    x = torch.linspace(0, 1, 10_000)
    assert observed(x).grid().scale == pytest.approx(1 / 255, rel=0.02)


def test_a_constant() -> None:
    assert observed(torch.zeros(9)).grid() == grid_for(0.0, 0.0)
    grid = observed(torch.full((9,), -3.0)).grid()
    assert (grid.scale, grid.zero_point) == (pytest.approx(3 / 255), 255)

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torchcompress.core.errors import UnsupportedError
from torchcompress.quantization.int8.weights import quantize_weight


@given(st.lists(st.floats(-1e3, 1e3), min_size=6, max_size=6))
def test_error_is_at_most_half_a_step(values: list[float]) -> None:
    weight = torch.tensor(values, dtype=torch.float64).view(2, 3)
    q, scale, _ = quantize_weight(weight, torch.zeros(2, dtype=torch.float64), 1.0)
    assert q.dtype == torch.int8
    assert int(q.min()) >= -127
    error = (q.double() * scale.double().view(2, 1) - weight).abs()
    assert bool((error <= scale.double().view(2, 1) * 0.5001).all() or (scale == 1.0).any())


def test_a_zero_channel_has_scale_one_and_its_exact_bias() -> None:
    q, scale, bias = quantize_weight(torch.zeros(1, 4).double(), torch.tensor([5.0]).double(), 0.1)
    assert (q.abs().max().item(), scale.item(), bias.item()) == (0, 1.0, 5.0)


def test_small_channels_keep_their_bits() -> None:
    weight = (
        torch.tensor([1.0, 1e-3, 1e-5]).double().view(3, 1) * torch.tensor([1.0, -0.25]).double()
    )
    q, _, _ = quantize_weight(weight, torch.zeros(3).double(), 0.1)
    assert q.tolist() == [[127, -32]] * 3


def test_a_scale_grows_only_where_the_bias_would_overflow() -> None:
    weight, bias = torch.full((2, 1), 1e-6).double(), torch.tensor([0.01, 100.0]).double()
    _, scale, _ = quantize_weight(weight, bias, 1e-3)
    assert scale[0].item() == torch.tensor(1e-6 / 127).item()
    assert scale[1] > scale[0]
    assert bias[1] / (1e-3 * scale[1].double()) <= 2**31 - 1


@pytest.mark.parametrize("bias", [0.0, 3.0])
def test_rows_of_many_products_keep_their_bits_and_fit_the_accumulator(bias: float) -> None:
    """Normal rows are untouched; a row of equal weights gives up just what int32 lacks."""
    weight = torch.randn(2, 150_528, dtype=torch.float64)
    weight[1] = 1.0
    x_scale = 1e-2
    q, scale, _ = quantize_weight(weight, torch.full((2,), bias).double(), x_scale)
    assert scale[0] == (weight[0].abs().amax() / 127).float()
    assert q[1].unique().tolist() == [55]
    sums = 255 * q.double().abs().sum(1) + bias / (x_scale * scale.double())
    assert bool((sums <= 2**31 - 1).all())
    assert sums[1] > 0.95 * 2**31


def test_more_products_than_an_accumulator_holds() -> None:
    with pytest.raises(UnsupportedError, match="4194305 products for each output do not fit"):
        quantize_weight(torch.ones(1, 2**22 + 1).double(), torch.zeros(1).double(), 1.0)

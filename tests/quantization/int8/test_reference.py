"""The reference against arithmetic spelled out on integers."""

import pytest
import torch

from torchcompress.quantization.int8 import reference
from torchcompress.quantization.program import Op, QParams


def test_convolution_by_hand() -> None:
    args = {
        "stride": [1, 1],
        "padding": [0, 0],
        "dilation": [1, 1],
        "groups": 1,
        "activation": "relu",
    }
    tensors = {
        "l.weight": torch.tensor([[3, -5], [127, 1]], dtype=torch.int8).view(2, 2, 1, 1),
        "l.scale": torch.tensor([0.5, 0.25]),
        "l.bias": torch.tensor([1.0, -2.0]),
    }
    x = torch.tensor([200, 12], dtype=torch.uint8).view(1, 2, 1, 1)
    residual = torch.tensor([7, 250], dtype=torch.uint8).view(1, 2, 1, 1)
    op = Op("conv2d", "y", ("x", "r"), args, "l", int8=True, out=QParams(2.0, 3))
    got = reference.bind(op, [QParams(0.5, 10), QParams(0.25, 5)], tensors)(x, residual)
    # (190*3 + 2*-5) * 0.5 * 0.5 + 1 + 2 * 0.25 = 141.5; (190*127 + 2) * 0.125 - 2 + 61.25 saturates
    assert got.flatten().tolist() == [round(141.5 / 2) + 3, 255]


def test_quantize_rounds_half_to_even_and_saturates() -> None:
    op = Op("quantize", "y", ("x",), out=QParams(0.5, 10))
    x = torch.tensor([0.25, 0.75, 1.25, -0.25, -100.0, 1000.0, 0.0])
    got = reference.bind(op, ["float"], {})(x)
    assert got.tolist() == [10, 12, 12, 10, 0, 255, 10]
    back = reference.bind(Op("dequantize", "z", ("y",)), [QParams(0.5, 10)], {})(got)
    assert back.tolist() == [0.0, 1.0, 1.0, 0.0, -5.0, 122.5, 0.0]


@pytest.mark.parametrize("shape", [(5,), (2, 3, 5, 4), (3, 200_000), (2, 8, 200, 211)])
def test_quantizing_pieces_of_a_large_tensor(shape: tuple[int, ...]) -> None:
    """Against the formula in float64; ties aside, which a float32 product cannot tell."""
    x, grid = torch.randn(shape) * 3, QParams(0.031, 114)
    got = reference.bind(Op("quantize", "y", ("x",), out=grid), ["float"], {})(x)
    exact = x.double() / grid.scale + grid.zero_point
    tie = ((exact - exact.floor()) - 0.5).abs() < 1e-4
    assert torch.equal(got[~tie].double(), exact.round().clamp(0, 255)[~tie])
    assert got.stride() == x.stride()
    if len(shape) == 4:
        maps = x.contiguous(memory_format=torch.channels_last)
        again = reference.bind(Op("quantize", "y", ("x",), out=grid), ["float"], {})(maps)
        assert torch.equal(again, got)
        assert again.is_contiguous(memory_format=torch.channels_last)


def test_global_average_of_integers() -> None:
    x = torch.tensor([[0, 4], [250, 2]], dtype=torch.uint8).view(1, 1, 2, 2)
    op = Op("global_avg_pool", "y", ("x",), {"keepdim": False})
    got = reference.bind(op, [QParams(0.5, 4)], {})(x)
    assert got.tolist() == [[(64.0 - 4) * 0.5]]

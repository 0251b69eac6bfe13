from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from torchcompress.metrics.size import (
    count_params,
    count_zeros,
    entropy_bytes,
    file_bytes,
    state_dict_bytes,
)


def test_tied_weights_count_once() -> None:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    model = nn.Sequential(first, second)
    assert count_params(model) == 16 + 4 + 4
    assert state_dict_bytes(model) == 4 * (16 + 4 + 4)


def test_buffers_and_dtypes_count_as_bytes() -> None:
    model = nn.BatchNorm2d(3)
    assert count_params(model) == 6
    assert state_dict_bytes(model) == 4 * 4 * 3 + 8
    assert state_dict_bytes(nn.Linear(2, 3).to(torch.bfloat16)) == 2 * 9


class Packed(nn.Module):
    """Keeps its weights in a buffer, as an int8 model does."""

    parameter_count = 17
    zero_count = 3


def test_a_model_that_keeps_weights_in_buffers_says_how_many() -> None:
    assert count_params(Packed()) == 17
    assert count_zeros(Packed()) == 3


def test_zeros_are_counted_whatever_their_sign() -> None:
    layer = nn.Linear(4, 4)
    layer.weight.data[0, :3] = torch.tensor([0.0, -0.0, 1e-40])
    layer.bias.data[2] = 0
    assert count_zeros(layer) == 3


def test_the_size_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 123)
    assert file_bytes(tmp_path / "a") == 123


HALVES = torch.tensor([0, 1] * 400)


@pytest.mark.parametrize(
    ("tensor", "bits"),
    [
        (torch.zeros(1000), 0),
        (torch.zeros(0), 0),
        (torch.tensor([0.0, -0.0] * 100), 200),
        (torch.full((100,), 3, dtype=torch.int8), 0),
        (HALVES.to(torch.int8), 800),
        (HALVES.float(), 800 + 400 * 23),
        (torch.tensor([1, 2, 3, 4] * 100, dtype=torch.int8), 800),
        (torch.tensor([1.0, -1.0, 4.0, -4.0] * 100), 800 + 400 * 23),
        (torch.tensor([1.0, -1.0] * 100).to(torch.bfloat16), 200 + 200 * 7),
        (torch.tensor([1.0, 1.5] * 100).half(), 200 * 10),
        (torch.tensor([1.0, 1.5] * 100).double(), 200 * 52),
    ],
)
def test_the_entropy_of_positions_and_values(tensor: Tensor, bits: int) -> None:
    assert entropy_bytes(tensor) == pytest.approx(bits / 8)

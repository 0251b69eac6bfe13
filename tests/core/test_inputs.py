from collections import namedtuple
from typing import Any

import pytest
import torch
from torch import nn

from torchcompress.core.inputs import (
    batch_inputs,
    batch_labels,
    calibration_batches,
    call,
    map_tensors,
    tensors_in,
)
from torchcompress.errors import CalibrationError, CompressError


class Sum(nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor | None = None) -> torch.Tensor:
        return a if b is None else a + b


one, two = torch.ones(2), torch.full((2,), 2.0)


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [(one, one), ((one, two), one + two), ({"a": one, "b": two}, one + two)],
)
def test_a_model_is_called_with_a_tensor_a_tuple_or_a_dict(
    inputs: Any, expected: torch.Tensor
) -> None:
    assert torch.equal(call(Sum(), inputs), expected)


def test_a_list_is_no_example_input() -> None:
    with pytest.raises(CompressError, match="not list"):
        call(Sum(), [one])  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("batch", "inputs"),
    [
        ((one, 3), one),
        ([one, 3], one),
        (one, one),
        ({"a": one}, {"a": one}),
        (((one, two), 3), (one, two)),
        (([one, two], 3), (one, two)),
    ],
)
def test_inputs_of_a_batch(batch: Any, inputs: Any) -> None:
    found = batch_inputs(batch)
    assert type(found) is type(inputs)
    pairs = zip(tensors_in(found), tensors_in(inputs), strict=True)
    assert all(name == other and a is b for (name, a), (other, b) in pairs)


def test_labels_of_a_batch() -> None:
    assert batch_labels((one, 3, "id")) == 3
    with pytest.raises(CompressError, match="no labels"):
        batch_labels(one)


def test_tensors_are_found_and_mapped_in_nested_containers() -> None:
    pair = namedtuple("pair", ["x", "y"])
    value = {"a": [one, 5], "b": pair(one, (two,))}
    assert [name for name, _ in tensors_in(value)] == ["a[0]", "b[0]", "b[1][0]"]
    doubled = map_tensors(lambda t: t * 2, value)
    assert isinstance(doubled["b"], pair)
    assert torch.equal(doubled["b"].y[0], two * 2)
    assert doubled["a"][1] == 5


def test_an_empty_calibration_loader_is_an_error() -> None:
    with pytest.raises(CalibrationError, match="yielded nothing"):
        list(calibration_batches([]))


def test_a_batch_that_is_not_finite_is_named() -> None:
    bad = torch.tensor([1.0, float("nan")])
    with pytest.raises(CalibrationError, match="batch 1"):
        list(calibration_batches([(one, 0), (bad, 0)]))


def test_calibration_batches_are_inputs_or_with_forward_whole_batches() -> None:
    assert next(calibration_batches([(one, 0)]))[1] is one
    assert [b for _, b in calibration_batches([(one, 0)], lambda m, b: m(b[0]))] == [(one, 0)]

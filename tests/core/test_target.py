import math
from typing import Any

import pytest

from torchcompress import Target
from torchcompress.errors import CompressError


def test_a_number_up_to_one_is_a_fraction_and_above_one_a_count() -> None:
    assert Target(macs=0.5).absolute(200) == 100
    assert Target(macs=1500).absolute(2000) == 1500
    assert Target(params=1.0).absolute(7) == 7


def test_it_names_its_quantity() -> None:
    target = Target(channels=0.25)
    assert (target.quantity, target.value, str(target)) == ("channels", 0.25, "channels=0.25")


@pytest.mark.parametrize(
    ("quantities", "message"),
    [
        ({}, "exactly one"),
        ({"macs": 0.5, "params": 0.5}, "exactly one"),
        ({"macs": 0}, "leaves nothing"),
        ({"macs": -1}, "leaves nothing"),
        ({"macs": math.nan}, "not a number"),
        ({"macs": "half"}, "not a number"),
        ({"macs": True}, "not a number"),
        ({"channels": 40}, "did you mean 0.4"),
        ({"macs": 40}, "did you mean 0.4"),
        ({"sparsity": 90}, "did you mean 0.9"),
        ({"sparsity": 1.0}, "outside"),
        ({"latency": 1.5}, "above 1"),
    ],
)
def test_what_cannot_be_is_refused(quantities: dict[str, Any], message: str) -> None:
    with pytest.raises(CompressError, match=message):
        Target(**quantities)


def test_a_count_above_what_the_model_has_is_refused() -> None:
    with pytest.raises(CompressError, match="more than the model has"):
        Target(params=3000).absolute(2000)


def test_partway_goes_from_the_model_to_the_target() -> None:
    assert Target(macs=0.4).partway(0.5, 1000) == Target(macs=0.7)
    assert Target(params=400).partway(0.5, 1000) == Target(params=0.7)
    assert Target(sparsity=0.8).partway(0.25, 1000) == Target(sparsity=0.2)
    assert Target(params=400).partway(1.0, 1000) == Target(params=400)

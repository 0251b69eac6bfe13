import math
import sys

import pytest

from torchcompress.core.numbers import is_finite, shown


@pytest.mark.parametrize("value", [0, -3, 1.5, sys.float_info.max, 10**300])
def test_numbers(value: float) -> None:
    assert is_finite(value)
    assert shown(value) == repr(value)


@pytest.mark.parametrize("value", [True, math.nan, math.inf, -math.inf, "3", None, 10**400, 3j])
def test_what_is_no_number(value: object) -> None:
    assert not is_finite(value)


def test_a_huge_whole_number_is_not_printed() -> None:
    assert shown(10**5000) == shown(-(10**5000)) == "a huge whole number"
    assert shown(True) == "True"

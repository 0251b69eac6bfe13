import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchcompress.errors import CompressError
from torchcompress.graph.groups import Group
from torchcompress.pruning.floors import Floors


def group(units: int, width: int) -> Group:
    members = {("w", 0): np.arange(units * width).reshape(units, width)}
    return Group("g", members, np.arange(units), ("w",), width, None)


@pytest.mark.parametrize(
    ("units", "wanted", "kept"),
    [(10, 9, 1), (16, 6, 8), (16, 0, 16), (58, 0, 58), (58, 1, 56), (12, 12, 1), (12, 7, 5)],
)
def test_channels_are_kept_in_eights_or_not_rounded_below(
    units: int, wanted: int, kept: int
) -> None:
    assert units - Floors(round_to=8).removed(group(units, 1), wanted) == kept


@pytest.mark.parametrize(
    ("floors", "units", "kept"),
    [
        (Floors(8, max_removed=0.5), 20, 16),
        (Floors(8, max_removed=0.5, yielding=True), 20, 10),
        (Floors(8, min_channels=9), 20, 16),
        (Floors(8, min_channels=2), 20, 2),
        (Floors(8, min_channels=9), 12, 9),
        (Floors(8, min_channels=30), 20, 20),
    ],
)
def test_a_floor_is_rounded_up_unless_it_yields(floors: Floors, units: int, kept: int) -> None:
    assert units - floors.removed(group(units, 1), units) == kept


@given(
    units=st.integers(1, 60),
    width=st.integers(1, 9),
    round_to=st.integers(1, 16),
    least=st.integers(1, 20),
    cap=st.sampled_from([0.25, 0.5, 0.9, 1.0]),
    data=st.data(),
)
def test_rounding_never_passes_a_floor_nor_keeps_more_than_asked(
    units: int, width: int, round_to: int, least: int, cap: float, data: st.DataObject
) -> None:
    one, floors = group(units, width), Floors(round_to, least, cap)
    wanted = data.draw(st.integers(0, units))
    removed, most = floors.removed(one, wanted), floors.removed(one, units)
    kept = units - removed
    assert kept * width >= min(units * width, least)
    assert removed <= cap * units + 1e-9
    assert removed <= most
    assert removed >= min(wanted, most)
    assert floors.removed(one, max(wanted - 1, 0)) <= removed
    step = round_to // math.gcd(round_to, width)
    if removed and kept >= step and removed < most:
        assert kept % step == 0
        assert floors.rounded(one, removed)


@given(st.integers(1, 60), st.integers(1, 16), st.data())
def test_giving_back_ends_with_the_whole_layer(
    units: int, round_to: int, data: st.DataObject
) -> None:
    one, floors = group(units, 1), Floors(round_to)
    removed = data.draw(st.integers(1, units))
    while removed:
        fewer = floors.fewer(one, removed)
        assert 0 <= fewer < removed
        assert fewer == 0 or floors.removed(one, fewer) == fewer
        removed = fewer


@pytest.mark.parametrize(
    "arguments", [{"round_to": 0}, {"min_channels": 0}, {"max_removed": 0}, {"max_removed": 1.5}]
)
def test_numbers_out_of_range_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(CompressError, match=next(iter(arguments))):
        Floors(**arguments)  # pyright: ignore[reportArgumentType]

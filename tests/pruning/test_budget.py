import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchcompress.graph.groups import Group
from torchcompress.pruning.budget import Floors


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


@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 16), st.integers(1, 20), st.data())
def test_rounding_never_empties_a_layer_nor_keeps_more_than_asked(
    units: int, width: int, round_to: int, least: int, data: st.DataObject
) -> None:
    wanted = data.draw(st.integers(0, units))
    one, floors = group(units, width), Floors(round_to, least)
    removed = floors.removed(one, wanted)
    kept = (units - removed) * width
    assert kept >= min(units * width, max(1, least))
    assert removed <= floors.removed(one, units)
    if kept - width >= max(least, round_to):
        assert removed >= wanted
    if removed > 0 and kept - width >= max(least, round_to * width):
        assert kept % round_to == 0 or (units - removed) % round_to == 0
    assert floors.removed(one, max(wanted - 1, 0)) <= removed

import pytest

from torchcompress.quantization.program import Op, Program
from torchcompress.quantization.ranges import moved_values, range_classes, warn_uneven_branches

PROGRAM = Program(
    (("x", "v0"),),
    (
        Op("activation", "v1", ("v0",), {"name": "relu"}),
        Op("max_pool2d", "v2", ("v1",)),
        Op("cat", "v3", ("v2", "v0"), name="join"),
        Op("size", "v4", ("v3",), {"dim": 0}),
        Op("reshape", "v5", ("v3", "v4"), {"shape": [None, -1]}),
        Op("add", "v6", ("v5", "v5")),
    ),
    "v6",
)


def test_movement_shares_a_range_and_arithmetic_does_not() -> None:
    classes = range_classes(PROGRAM)
    shared = {"v0", "v1", "v2", "v3", "v5"}
    assert {classes[value] for value in shared} == {classes["v0"]}
    assert len({classes["v4"], classes["v6"], classes["v0"]}) == 3
    assert moved_values(PROGRAM) == {"v2", "v3", "v5"}


@pytest.mark.parametrize(("low", "high"), [(0.0, 9.0), (-3.0, 2.0), (0.0, 0.5), (0.0, 0.0)])
def test_branches_more_than_4_times_apart(low: float, high: float) -> None:
    extents = {"v2": (0.0, 2.2), "v0": (low, high)}
    if high - low in (9.0, 0.5, 0.0):
        with pytest.warns(UserWarning, match="join: concatenated branches differ"):
            warn_uneven_branches(PROGRAM, extents, {"v3": None})
    else:
        warn_uneven_branches(PROGRAM, extents, {"v3": None})
    warn_uneven_branches(PROGRAM, extents, {})

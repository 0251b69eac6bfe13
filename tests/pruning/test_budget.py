from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchcompress.graph.groups import Group
from torchcompress.pruning.budget import Budget, Measure
from torchcompress.pruning.floors import Floors


def group(name: str, units: int, width: int = 1) -> Group:
    members = {(f"{name}.weight", 0): np.arange(units * width).reshape(units, width)}
    return Group(name, members, np.arange(units), (name,), width, None)


def budget(
    scores: Mapping[str, Sequence[float]],
    floors: Floors,
    rivals: Sequence[Sequence[int]] | None = None,
    ratios: dict[str, float] | None = None,
) -> Budget:
    groups = [group(name, len(values)) for name, values in scores.items()]
    every = [list(range(len(groups)))] if rivals is None else rivals
    arrays = {name: np.array(values, float) for name, values in scores.items()}
    return Budget(groups, arrays, every, floors, ratios or {})


def units_left(sizes: Sequence[int], weights: Sequence[float]) -> Measure:
    return lambda counts: float(((np.array(sizes) - counts) * np.array(weights)).sum())


def test_the_lowest_scores_go_first_across_groups() -> None:
    one = budget({"a": [3, 1, 5], "b": [2, 9, 4]}, Floors(1))
    counts = one.meet(units_left([3, 3], [1, 1]), 3)
    assert counts is not None
    removed = one.removed(counts)
    assert {name: units.tolist() for name, units in removed.items()} == {"a": [0, 1], "b": [0]}


def test_equal_scores_are_shared_out_and_always_alike() -> None:
    one = budget({"a": [1] * 8, "b": [1] * 4}, Floors(1))
    counts = one.meet(units_left([8, 4], [1, 1]), 6)
    assert counts is not None
    assert counts.tolist() == [4, 2]


def test_each_class_of_rivals_loses_the_same_fraction() -> None:
    scores = {"a": [1, 2, 3, 4], "b": [5, 6, 7, 8], "c": [100, 200, 300, 400]}
    one = budget(scores, Floors(1), [[0, 1], [2]])
    counts = one.meet(units_left([4, 4, 4], [1, 1, 1]), 6)
    assert counts is not None
    assert counts.tolist() == [3, 1, 2]


def test_a_group_with_a_ratio_of_its_own_is_not_ranked() -> None:
    one = budget({"a": [1] * 16, "b": [9] * 16, "c": [5] * 16}, Floors(1), ratios={"b": 0.25})
    counts = one.meet(units_left([16] * 3, [1] * 3), 24)
    assert counts is not None
    assert counts.tolist() == [12, 12, 0]


def test_a_capped_group_leaves_the_rest_to_the_others() -> None:
    one = budget({"a": [1] * 16, "b": [9] * 16}, Floors(1, max_removed=0.5))
    counts = one.meet(units_left([16, 16], [1, 1]), 20)
    assert counts is not None
    assert counts.tolist() == [8, 4]


def test_rounding_gives_way_where_the_target_needs_it() -> None:
    one = budget({"a": [1] * 20, "b": [2] * 20}, Floors(8, max_removed=0.5))
    measure = units_left([20, 20], [1, 1])
    for limit, expected in ((32, [4, 4]), (26, [10, 4]), (20, [10, 10])):
        counts = one.meet(measure, limit)
        assert counts is not None
        assert counts.tolist() == expected
    assert one.meet(measure, 19) is None
    assert one.most().tolist() == [10, 10]


@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    round_to=st.sampled_from([1, 4, 8]),
    fraction=st.floats(0.05, 1),
    seed=st.integers(0, 99),
    scope=st.sampled_from(["global", "layer"]),
)
def test_a_limit_is_met_and_not_one_more_step_fits(
    sizes: list[int], round_to: int, fraction: float, seed: int, scope: str
) -> None:
    generator = np.random.default_rng(seed)
    weights = generator.uniform(0.1, 10, len(sizes))
    scores = {str(i): generator.random(n).round(1).tolist() for i, n in enumerate(sizes)}
    rivals = None if scope == "global" else [[i] for i in range(len(sizes))]
    one, measure = budget(scores, Floors(round_to), rivals), units_left(sizes, weights.tolist())
    limit = fraction * measure(np.zeros(len(sizes), np.int64))
    counts = one.meet(measure, limit)
    if counts is None:
        assert measure(np.array(sizes) - 1) > limit
        return
    assert measure(counts) <= limit
    assert (counts < np.array(sizes)).all()
    for index in np.flatnonzero(counts).tolist():
        back = counts.copy()
        back[index] = Floors(round_to).fewer(one.groups[index], int(counts[index]))
        assert measure(back) > limit
    if round_to == 1 and scope == "global":
        assert measure(counts) >= limit - weights.max()


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_what_remains_falls_with_the_limit(scope: str) -> None:
    generator = np.random.default_rng(0)
    scores = {str(i): generator.random(64).tolist() for i in range(4)}
    rivals = None if scope == "global" else [[i] for i in range(4)]
    one, measure = budget(scores, Floors(8), rivals), units_left([64] * 4, [1, 2, 4, 8])
    whole = measure(np.zeros(4, np.int64))
    left = []
    for fraction in (0.75, 0.5, 0.2):
        counts = one.meet(measure, fraction * whole)
        assert counts is not None
        left.append(measure(counts) / whole)
    assert left == sorted(left, reverse=True)
    assert all(f - 0.1 < value <= f for f, value in zip((0.75, 0.5, 0.2), left, strict=True))

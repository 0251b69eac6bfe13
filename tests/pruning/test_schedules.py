from typing import Any

import pytest
import torch

from torchcompress.errors import CompressError
from torchcompress.pruning.schedules import Cubic, Iterative, OneShot, check_reaches, fraction_at


def test_one_shot_goes_the_whole_way_at_its_step() -> None:
    assert [OneShot()(0), OneShot(2)(1), OneShot(2)(2), OneShot(2)(9)] == [1, 0, 1, 1]


def test_iterative_goes_equal_parts() -> None:
    schedule = Iterative(cuts=4, every=10, begin=5)
    assert [schedule(s) for s in (0, 4, 5, 14, 15, 34, 35, 99)] == [
        0,
        0,
        0.25,
        0.25,
        0.5,
        0.75,
        1,
        1,
    ]


def test_cubic_follows_the_published_formula() -> None:
    schedule = Cubic(begin=10, end=110, every=20)
    initial, final = 0.0, 1.0
    for step in range(10, 110):
        pruned = step - (step - 10) % 20
        expected = final + (initial - final) * (1 - (pruned - 10) / 100) ** 3
        assert schedule(step) == pytest.approx(expected)
    assert [schedule(0), schedule(10), schedule(110), schedule(500)] == [0, 0, 1, 1]


def test_cubic_ends_at_its_end_where_the_interval_does_not_divide() -> None:
    schedule = Cubic(end=10, every=7)
    assert schedule(9) < 1
    assert schedule(10) == 1


@pytest.mark.parametrize(
    ("make", "where"),
    [
        (lambda: OneShot(-1), "schedule.step"),
        (lambda: Iterative(cuts=0, every=1), "schedule.cuts"),
        (lambda: Iterative(cuts=1, every=0), "schedule.every"),
        (lambda: Cubic(begin=5, end=5, every=1), "schedule.end"),
        (lambda: Cubic(end=5, every=True), "schedule.every"),
    ],
)
def test_numbers_out_of_range_are_named(make: object, where: str) -> None:
    assert callable(make)
    with pytest.raises(CompressError) as error:
        make()
    assert error.value.where == where


@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan")])
def test_a_schedule_of_one_s_own_gives_fractions(value: float) -> None:
    with pytest.raises(CompressError, match="at step 3"):
        fraction_at(lambda step: value, 3)


@pytest.mark.parametrize("schedule", ["cubic", None, Cubic])
def test_what_is_no_schedule_is_refused(schedule: Any) -> None:
    with pytest.raises(CompressError, match="is not a schedule"):
        fraction_at(schedule, 0)


@pytest.mark.parametrize("value", [None, "half", torch.tensor(0.5)])
def test_a_fraction_is_a_number(value: Any) -> None:
    with pytest.raises(CompressError, match="at step 3"):
        fraction_at(lambda step: value, 3)


def test_a_schedule_that_ends_after_the_training_is_refused() -> None:
    check_reaches(Cubic(end=100, every=10), 100)
    with pytest.raises(CompressError, match="88 % of the way"):
        check_reaches(Cubic(end=100, every=10), 50)
    with pytest.raises(CompressError, match="0 % of the way"):
        check_reaches(OneShot(51), 50)

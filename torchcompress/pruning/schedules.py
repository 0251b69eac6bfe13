"""Schedules: how far a model is on its way to a target at each optimizer step."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real

from torchcompress.core.errors import CompressError

Schedule = Callable[[int], float]
"""Returns for a number of optimizer steps taken the fraction of the way that must be gone by then:
0 is the original model, 1 the target. What is gone stays gone where it falls again."""


@dataclass(frozen=True)
class OneShot:
    """The whole way at once.

    Args:
        step: Optimizer steps taken before, 0 for before the first one.

    Raises:
        CompressError: A step below 0.
    """

    step: int = 0

    def __post_init__(self) -> None:
        _at_least("step", self.step, 0)

    def __call__(self, step: int) -> float:
        """Returns the fraction of the way after `step` optimizer steps."""
        return float(step >= self.step)


@dataclass(frozen=True, kw_only=True)
class Iterative:
    """Equal parts of the way, with training between them.

    Args:
        cuts: How many parts.
        every: Optimizer steps from one to the next.
        begin: Optimizer steps taken before the first.

    Raises:
        CompressError: A number out of range.
    """

    cuts: int
    every: int
    begin: int = 0

    def __post_init__(self) -> None:
        _at_least("cuts", self.cuts, 1)
        _at_least("every", self.every, 1)
        _at_least("begin", self.begin, 0)

    def __call__(self, step: int) -> float:
        """Returns the fraction of the way after `step` optimizer steps."""
        made = (step - self.begin) // self.every + 1
        return min(max(made, 0), self.cuts) / self.cuts


@dataclass(frozen=True, kw_only=True)
class Cubic:
    """Much at first, less and less towards the end (Zhu and Gupta, 2017).

    After t steps, counted in whole multiples of `every` from `begin`, the fraction of the way is
    `1 - (1 - (t - begin) / (end - begin)) ** 3`.

    Args:
        begin: Optimizer steps taken before it moves.
        end: Optimizer steps after which the target is reached.
        every: Optimizer steps from one part of the way to the next.

    Raises:
        CompressError: A number out of range, or an end that is not after the begin.
    """

    begin: int = 0
    end: int
    every: int

    def __post_init__(self) -> None:
        _at_least("begin", self.begin, 0)
        _at_least("end", self.end, self.begin + 1)
        _at_least("every", self.every, 1)

    def __call__(self, step: int) -> float:
        """Returns the fraction of the way after `step` optimizer steps."""
        if step >= self.end:
            return 1.0
        gone = max(step - self.begin, 0) // self.every * self.every
        return 1 - (1 - gone / (self.end - self.begin)) ** 3


def fraction_at(schedule: Schedule, step: int) -> float:
    """Returns the fraction of the way after so many optimizer steps.

    Args:
        schedule: How far to be when.
        step: Optimizer steps taken.

    Raises:
        CompressError: It is no schedule, or gives no number from 0 to 1.
    """
    if isinstance(schedule, type) or not callable(schedule):
        raise CompressError(
            f"{schedule!r} is not a schedule",
            where="schedule",
            hint="give one such as Cubic(end=1000, every=100), or a function of the step",
        )
    fraction: object = schedule(step)
    if not (isinstance(fraction, Real) and math.isfinite(fraction) and 0 <= fraction <= 1):
        raise CompressError(
            f"gives {fraction} at step {step}",
            where="schedule",
            hint="return the fraction of the way, a number from 0 to 1",
        )
    return float(fraction)


def check_reaches(schedule: Schedule, steps: int) -> None:
    """Refuses a schedule that has not reached the target when a training ends.

    Args:
        schedule: How far to be when.
        steps: Optimizer steps of the training.

    Raises:
        CompressError: It is then only part of the way.
    """
    fraction = fraction_at(schedule, steps)
    if fraction < 1:
        raise CompressError(
            f"is {100 * fraction:.0f} % of the way when the training ends, after {steps} steps",
            where="schedule",
            hint="let it end earlier, or train longer",
        )


def _at_least(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise CompressError(
            f"{value!r} is not a whole number from {least}", where=f"schedule.{name}"
        )

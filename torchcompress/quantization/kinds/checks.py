"""What the arguments of an operation may be, when they come from a file."""

import math
from collections.abc import Callable
from typing import Any

Check = Callable[[Any], bool]

_LARGEST = 2**20
_LARGEST_WINDOW = 2**10
_MOST_DIMENSIONS = 8


def integer(low: int, high: int = _LARGEST) -> Check:
    """Returns the check for an integer of a range."""
    return lambda v: type(v) is int and low <= v <= high


def integers(length: int, low: int, high: int = _LARGEST_WINDOW) -> Check:
    """Returns the check for a list of so many integers of a range."""
    number = integer(low, high)
    return lambda v: type(v) is list and len(v) == length and all(map(number, v))


def one_of(*allowed: str | None) -> Check:
    """Returns the check for one of some words."""
    return lambda v: (v is None or type(v) is str) and v in allowed


def list_of(check: Check, most: int = _MOST_DIMENSIONS) -> Check:
    """Returns the check for a list that is not empty."""
    return lambda v: type(v) is list and 0 < len(v) <= most and all(map(check, v))


def optional(check: Check) -> Check:
    """Returns the check that takes None too."""
    return lambda v: v is None or check(v)


def is_bool(value: Any) -> bool:
    """Returns whether a value is True or False."""
    return type(value) is bool


def is_number(value: Any) -> bool:
    """Returns whether a value is a finite number."""
    return type(value) in (int, float) and math.isfinite(value)


def is_positive(value: Any) -> bool:
    """Returns whether a value is a finite number above 0."""
    return is_number(value) and value > 0


DIM = integer(-_MOST_DIMENSIONS, _MOST_DIMENSIONS - 1)
DIMS = list_of(DIM)
SIZES = list_of(optional(integer(-1)))
"""Sizes by dimension: -1 is inferred or kept, None comes as an operand."""

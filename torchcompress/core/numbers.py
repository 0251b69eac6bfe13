"""What counts as a number."""

import sys
from typing import TypeGuard


def is_finite(value: object) -> TypeGuard[float]:
    """Returns whether a value is a finite number that a float can hold; a bool is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -sys.float_info.max <= value <= sys.float_info.max


def shown(value: object) -> str:
    """Returns a value for a message, short even where it is a huge whole number."""
    huge = isinstance(value, int) and value.bit_length() > sys.float_info.max_exp
    return "a huge whole number" if huge else repr(value)

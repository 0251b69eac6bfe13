"""Progress bars, shown only where the work takes more than two seconds."""

import os
import sys
from collections.abc import Iterable
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")


def progress(
    items: Iterable[T], label: str, total: int | None = None, unit: str = "it"
) -> "tqdm[T]":
    """Wraps an iterable in a bar on standard error, on the first process only.

    Args:
        items: What to iterate over.
        label: What is being done, in a few words.
        total: How many items, where `items` has no length.
        unit: What one item is called.
    """
    return tqdm(items, total=total, unit=unit, **_style(label))


def progress_bar(label: str, total: int, unit: str = "it") -> "tqdm[Any]":
    """Returns a bar that the caller advances with `update`."""
    return tqdm(total=total, unit=unit, **_style(label))


def _style(label: str) -> dict[str, Any]:
    return {
        "desc": label,
        "delay": 2,
        "leave": False,
        "dynamic_ncols": True,
        "mininterval": 0.2 if sys.stderr.isatty() else 10,
        "disable": int(os.environ.get("RANK", "0")) != 0,
    }

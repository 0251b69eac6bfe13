"""The tensors among what an operation takes or gives."""

from typing import Any

from torch import Tensor


def tensors_among(values: Any) -> list[Tensor]:
    """Returns the tensors in arguments or results, through lists, tuples and dicts.

    Args:
        values: A value, or values in such containers.
    """
    if isinstance(values, Tensor):
        return [values]
    if isinstance(values, dict):
        values = values.values()
    elif not isinstance(values, list | tuple):
        return []
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple | dict):
            found += tensors_among(value)
    return found

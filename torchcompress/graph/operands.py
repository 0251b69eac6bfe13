"""The tensors among what an operation takes or gives."""

from functools import cache
from typing import Any

import torch
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


def written(
    func: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> list[Tensor]:
    """Returns the tensors that an operation writes to.

    Args:
        func: The operation.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
    """
    return [
        tensor
        for position, name in _writes(func)
        for tensor in tensors_among(args[position] if position < len(args) else kwargs.get(name))
    ]


@cache
def _writes(func: torch._ops.OpOverload) -> list[tuple[int, str]]:
    """Returns the positions and names of the arguments that an operation writes to."""
    return [
        (position, argument.name)
        for position, argument in enumerate(func._schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]

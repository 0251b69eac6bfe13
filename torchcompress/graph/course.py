"""The decisions that a run takes, so that another run can take the same."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from torchcompress.graph.calls import Running
from torchcompress.graph.labels import Vector
from torchcompress.graph.operands import tensors_among

Key = tuple[str, str, int]
"""Path of a module, name of an operation, and how many like it had decided something there."""


@dataclass(frozen=True)
class Decision:
    """One decision of a run.

    Attributes:
        shapes: Shapes of the floating-point tensors that it was made on.
        result: What the operation returned.
        labels: Labels of the result's dimensions.
    """

    shapes: tuple[tuple[int, ...], ...]
    result: Any
    labels: tuple[Vector, ...]


def decides(func: torch._ops.OpOverload, args: Any, out: Any) -> bool:
    """Whether an operation makes integers, truths or Python numbers of floating-point numbers.

    Such as top-k, sorting, non-maximum suppression, comparisons and `item()`.

    Args:
        func: The operation.
        args: Its arguments.
        out: Its result.
    """
    if _continuous(out):  # As nearly every result is.
        return False
    made = out if isinstance(out, tuple | list) else (out,)
    if all(value is None or _continuous(value) for value in made):
        return False
    return not func._schema.is_mutable and bool(floating(args))


def _continuous(value: Any) -> bool:
    return isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())


def floating(args: Any) -> list[Tensor]:
    """Returns the floating-point tensors among an operation's arguments."""
    return [tensor for tensor in tensors_among(args) if tensor.is_floating_point()]


class Course:
    """Takes the decisions of a traced run again in another run of the same model.

    Boxes, ranks and branches that hang on the last bit of a number would part two runs that agree
    to rounding. What each decision was made on is kept instead, to be compared.

    Args:
        decisions: What the traced run decided.

    Attributes:
        operands: What each decision was made on, by the module that made it.
        rounding: The coarsest relative rounding of any result.
    """

    def __init__(self, decisions: Mapping[Key, Decision]) -> None:
        self._decisions = decisions
        self._counts: Counter[tuple[str, str]] = Counter()
        self._at: Running | None = None
        self.operands: dict[str, dict[str, list[Tensor]]] = {}
        self.rounding = 0.0

    @contextmanager
    def followed(self, model: nn.Module) -> Iterator[None]:
        """Follows which module of a model decides, for a block in which it runs."""
        if not self._decisions:
            yield
            return
        self._at = Running(model)
        with self._at.followed():
            yield

    def taken(self, func: torch._ops.OpOverload, args: Any, out: Any) -> Any:
        """Returns an operation's result, with what the traced run decided in its place.

        An operation that meets other shapes than in the traced run decides for itself.

        Args:
            func: The operation.
            args: Its arguments.
            out: Its own result.
        """
        if isinstance(out, Tensor) and out.is_floating_point():
            self.rounding = max(self.rounding, torch.finfo(out.dtype).eps)
        if not self._decisions or not decides(func, args, out):
            return out
        name, path = str(func.overloadpacket), self._at.running if self._at else ""
        key = path, name, self._counts[path, name]
        self._counts[path, name] += 1
        if key not in self._decisions:
            return out
        decision, operands = self._decisions[key], floating(args)
        here = self.operands.setdefault(path, {})
        here[f"{name} number {key[2] + 1}"] = _basis(args)
        if tuple(tuple(tensor.shape) for tensor in operands) != decision.shapes:
            return out
        return tree_map(_instead, out, decision.result)


def _basis(args: Any) -> list[Tensor]:
    """Returns all that an operation decides on: tensors, and numbers such as a threshold or `k`."""
    values = [value for value in tree_leaves(args) if not isinstance(value, bool)]
    numbers = [float(value) for value in values if isinstance(value, int | float)]
    tensors = [value.clone() for value in values if isinstance(value, Tensor)]
    return [*tensors, torch.tensor(numbers, dtype=torch.float64)]


def _instead(own: Any, decided: Any) -> Any:
    return own if _continuous(own) else kept(decided)


def kept(value: Any) -> Any:
    """Returns a result that nothing else changes."""
    return value.clone() if isinstance(value, Tensor) else value

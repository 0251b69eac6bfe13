"""Counting the operations that a model dispatches, alike in every run."""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from torchcompress.graph.rules import find_rule

_LAYOUT = {
    "aten._to_copy", "aten.clone", "aten.contiguous", "aten.view", "aten._unsafe_view",
    "aten.reshape", "aten._reshape_alias", "aten.alias",
}  # fmt: skip
"""What a run does only for the sake of a type or of how a tensor lies in memory."""


class CountedRun(TorchDispatchMode):
    """Sees each ATen operation with its position in the run.

    An operation without a rule is decomposed where it can be, so that two runs over the same path
    give the same operations the same positions, in another dtype or memory layout too: casts,
    copies and views are not counted. Nor is what runs on meta tensors, such as a model that works
    out shapes in its first call.

    Attributes:
        index: Position of the operation that runs.
        steps: Names of the operations so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.index = -1
        self.steps: list[str] = []

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Runs one operation."""
        kwargs = kwargs or {}
        if any(isinstance(value, Tensor) and value.is_meta for value in args):
            return func(*args, **kwargs)
        if find_rule(func) is None:
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        name = str(func.overloadpacket)
        if name not in _LAYOUT:
            self.index += 1
        if name != "aten._to_copy":
            self.steps.append(name)
        return self.run(func, args, kwargs)

    def restart(self) -> None:
        """Counts another run from the start."""
        self.index = -1
        self.steps = []

    @abstractmethod
    def run(
        self, func: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Runs operation number `self.index` and returns its result."""

"""Residual sums: which layers add to a stream, and what they are added to."""

import weakref
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from torchcompress.core.inputs import tensors_in
from torchcompress.reconstruction.capture import Calibration
from torchcompress.reconstruction.layers import Convolution, Layer, Linear, Seen

_ADDITIONS = ("aten.add", "aten.add_")


@dataclass(frozen=True)
class Sum:
    """An addition that takes what a layer gives, behind its batch norm where it has one.

    Attributes:
        index: How many additions of two tensors of one shape the run had before.
        other: 0 or 1, which operand is the other one.
    """

    index: int
    other: int


class _Additions(TorchDispatchMode):
    """Sees each addition of two tensors of one shape."""

    def __init__(self) -> None:
        super().__init__()
        self.index = -1

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Runs one operation."""
        kwargs = kwargs or {}
        pair = args[:2]
        if (
            str(func.overloadpacket) in _ADDITIONS
            and all(isinstance(value, Tensor) for value in pair)
            and pair[0].shape == pair[1].shape
            and kwargs.get("alpha", 1) == 1
        ):
            self.index += 1
            self.add(pair)
        result = func(*args, **kwargs)
        self.made(result)
        return result

    @abstractmethod
    def add(self, pair: tuple[Tensor, Tensor]) -> None:
        """Sees the operands of addition number `self.index`, before it runs."""

    def made(self, result: Any) -> None:
        """Sees the result of any operation."""


class _Finder(_Additions):
    """Finds the sums that layers end in."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[Layer, Sum] = {}
        self._step = 0
        self._begun: dict[Layer, int] = {}
        self._given: dict[int, tuple[weakref.ref[Tensor], Layer]] = {}
        self._born: dict[int, int] = {}

    def follow(self, layer: Layer, stack: ExitStack) -> None:
        """Notes when a layer is about to run, and what it or its batch norm gives."""

        def begin(*_: Any) -> None:
            self._begun[layer] = self._step

        def give(_: nn.Module, __: Any, output: Tensor) -> None:
            self._given[id(output)] = weakref.ref(output), layer

        last = layer.module if layer.norm is None else layer.norm
        stack.callback(layer.module.register_forward_pre_hook(begin).remove)
        stack.callback(last.register_forward_hook(give).remove)

    def add(self, pair: tuple[Tensor, Tensor]) -> None:
        for side, tensor in enumerate(pair):
            reference, layer = self._given.get(id(tensor), (None, None))
            if layer is None or reference is None or reference() is not tensor:
                continue
            if self._born.get(id(pair[1 - side]), 0) <= self._begun[layer]:
                self.found[layer] = Sum(self.index, 1 - side)

    def made(self, result: Any) -> None:
        self._step += 1
        for _, tensor in tensors_in(result):
            self._born[id(tensor)] = self._step


def find_sums(
    model: nn.Module, layers: Sequence[Layer], calibration: Calibration
) -> dict[str, Sum]:
    """Returns the sum that each layer ends in, by the layer's name.

    A layer counts that one pass calls once, whose output, or that of its batch norm, is one
    operand, while the other was there before the layer ran: a skip connection, or the branch that
    ran first.

    Args:
        model: The model; left as it was.
        layers: Its solvable layers.
        calibration: The first batch is run.
    """
    finder = _Finder()
    with ExitStack() as stack:
        for layer in layers:
            if layer.calls == 1 and isinstance(layer, Convolution | Linear):
                finder.follow(layer, stack)
        with finder:
            calibration.run(model, 0)
    return {layer.name: found for layer, found in finder.found.items()}


class _Reached(BaseException):
    """Ends a forward pass at the sum of interest."""


class _Stop(_Additions):
    """Keeps the other operand of one sum and ends the run."""

    def __init__(self, wanted: Sum) -> None:
        super().__init__()
        self._wanted = wanted
        self.operand: Tensor | None = None

    def add(self, pair: tuple[Tensor, Tensor]) -> None:
        if self.index == self._wanted.index:
            self.operand = pair[self._wanted.other].clone()
            raise _Reached


def see_sum(
    model: nn.Module, layer: Layer, wanted: Sum, calibration: Calibration, index: int
) -> tuple[Seen, Tensor | None]:
    """Runs a model up to the sum that a layer ends in.

    Args:
        model: The model that the layer is of.
        layer: The layer.
        wanted: Its sum.
        calibration: The batches.
        index: Which batch.

    Returns:
        What the layer read and gave, and what is added to it; None where the batch takes a path
        without the sum.
    """
    seen: list[Seen] = []

    def called(_: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        call = layer.tensors(args, kwargs, output)
        seen.append(Seen(call.x.clone(), call.y.clone()))

    stop = _Stop(wanted)
    hook = layer.module.register_forward_hook(called, with_kwargs=True)
    try:
        with torch.no_grad(), stop:
            calibration.run(model, index)
    except _Reached:
        pass
    finally:
        hook.remove()
    return seen[0], stop.operand

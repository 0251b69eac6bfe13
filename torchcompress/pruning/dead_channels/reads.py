"""What each operation of a run reads of the channels: numbers that vary, or constants."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from torchcompress.core.inputs import Inputs, tensors_in
from torchcompress.core.modules import named_tensors
from torchcompress.graph.dependence import Dependence
from torchcompress.graph.dependence_rules import PRODUCTS
from torchcompress.graph.events import Contraction, Mask, Selection
from torchcompress.graph.labels import Vector
from torchcompress.graph.operands import tensors_among
from torchcompress.graph.record import Trace
from torchcompress.graph.running import run_model
from torchcompress.pruning.dead_channels.wiring import Wiring, convolution_wiring, product_wiring

_NORMS = ("aten._native_batch_norm_legit_no_training", "aten.native_batch_norm",
          "aten.cudnn_batch_norm")  # fmt: skip


@dataclass(frozen=True)
class Sink:
    """Where a constant can go that a layer no longer reads.

    Attributes:
        name: A bias, or the running mean of the batch norm that follows.
        sign: With which it is added there.
    """

    name: str
    sign: int


@dataclass(frozen=True)
class Read:
    """What one operation reads along a dimension that is made of channels.

    Attributes:
        layer: Path of the module that runs it.
        labels: The representative label of each index that is read, of shape (inputs,).
        produced: The representative labels of what is made, of shape (outputs,); None where all of
            it counts.
        wired: Whether an output reads an input at all, of shape (outputs, inputs).
        bordered: Whether it does so where a border of zeros may be, of a shape that fits.
        varies: Whether an input depends on the model's input or its size, or differs from place to
            place.
        depends: Whether it depends on the model's input itself.
        values: What an input is where it does not vary, float64.
        wiring: The weights of a layer whose constants can be moved.
        sink: Where these go, or None.
        refusal: Why they cannot go anywhere.
    """

    layer: str
    labels: Vector
    produced: Vector | None
    wired: np.ndarray
    bordered: np.ndarray
    varies: np.ndarray
    depends: np.ndarray
    values: np.ndarray
    wiring: Wiring | None = None
    sink: Sink | None = None
    refusal: str = ""

    def heard(self, silent: np.ndarray) -> np.ndarray:
        """Returns which outputs count where some labels do not."""
        if self.produced is None:
            return np.ones(len(self.wired), bool)
        return ~silent[self.produced]

    def read_by(self, heard: np.ndarray) -> np.ndarray:
        """Returns which inputs some outputs read."""
        return np.asarray(self.wired[heard].any(0))

    def needed_by(self, heard: np.ndarray) -> np.ndarray:
        """Returns which inputs some outputs cannot do without."""
        lost = self.varies | ((self.values != 0) & (self.sink is None))
        border = self.bordered[heard].any(0) & (self.values != 0)
        return (self.read_by(heard) & lost) | border

    def why(self, label: int) -> str:
        """Returns why a constant stays.

        Args:
            label: Of one that is read and needed.
        """
        if self.varies[self.labels == label].any():
            return f"{self.layer} reads a constant that a border of zeros makes vary"
        return self.refusal or f"{self.layer} reads the constant next to a border of zeros"


def find_reads(model: nn.Module, x: Inputs, trace: Trace) -> list[Read]:
    """Returns what the traced run reads of channels, as the model's weights have it.

    In a branch that only training takes, no constant can be moved.

    Args:
        model: The model; a copy is run.
        x: The example inputs of the trace.
        trace: What the traced run has shown.
    """
    reads = _read(model, x, trace)
    if trace.training is None:
        return reads
    known = {event.weight for event in trace.contractions}
    contractions = [
        e for e in trace.training.contractions if e.weight is None or e.weight not in known
    ]
    training = replace(trace.training, contractions=contractions)
    only = "only training reads the constant"
    return [
        *reads,
        *(replace(read, sink=None, refusal=only) for read in _read(model, x, training)),
    ]


def _read(model: nn.Module, x: Inputs, trace: Trace) -> list[Read]:
    """Returns what one run reads, with what depends on the input's values and not its size."""
    exact, loose = (_Reading(model, x, trace, sized=sized).reads for sized in (True, False))
    return [replace(read, depends=other.depends) for read, other in zip(exact, loose, strict=True)]


class _Reading(Dependence):
    """Runs a model and notes what is read.

    Attributes:
        reads: What was read.
    """

    def __init__(self, model: nn.Module, x: Inputs, trace: Trace, *, sized: bool) -> None:
        super().__init__([tensor for _, tensor in tensors_in(x)], sized=sized)
        own = trace.conditions.copy(model)
        self._events: dict[int, list[Contraction | Selection]] = {}
        for event in trace.events:
            self._events.setdefault(event.index, []).append(event)
        self._roots = trace.couplings.roots
        self._names = {
            tensor.untyped_storage()._cdata: name for name, tensor in named_tensors(own).items()
        }
        self._uses: Counter[int] = Counter()
        self._found: list[tuple[Read, Tensor | None, Tensor | None]] = []
        self._norms: dict[int, Tensor] = {}
        with trace.conditions.hold(own), self:
            output = run_model(own, x)
        self._uses.update(t.untyped_storage()._cdata for _, t in tensors_in(output))
        self.reads = [self._settled(*found) for found in self._found]
        if self.told:  # On another way a constant may be another number.
            self.reads = [
                replace(read, varies=read.varies | True, depends=read.depends | True)
                for read in self.reads
            ]

    def run(
        self, func: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Runs one operation."""
        found = [
            read
            for event in self._events.pop(self.index, ())
            for read in self._of_event(event, args, kwargs)
        ]
        used = {tensor.untyped_storage()._cdata for tensor in tensors_among((args, kwargs))}
        self._uses.update(used)
        name = str(func.overloadpacket)
        if name in _NORMS and not any(value is True for value in args):  # Not while it trains.
            self._norms[args[0].untyped_storage()._cdata] = args[3]
        out = super().run(func, args, kwargs)
        for read in found:
            if read.wiring is None:
                self._found.append((read, None, None))
            else:
                self._uses[out.untyped_storage()._cdata] = 0
                added = PRODUCTS[name][2]
                self._found.append((read, out, None if added is None else args[added]))
        return out

    def _of_event(
        self, event: Contraction | Selection, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> list[Read]:
        operands: dict[int | str, Any] = {**dict(enumerate(args)), **kwargs}
        if isinstance(event, Selection):
            apart = event.groups is not None  # Each group of a norm is read on its own.
            passed = {mask.labels.tobytes() for mask in event.writes if apart}
            return [
                self._whole(event, operands[mask.argument], mask)
                for mask in event.reads
                if mask.labels.tobytes() not in passed
            ]
        scaled = bool(kwargs)
        return [
            self._summed(
                event, self._whole(event, operands[mask.argument], mask), mask, args, scaled
            )
            for mask in event.masks
        ]

    def _whole(self, event: Contraction | Selection, x: Tensor, mask: Mask) -> Read:
        """Returns the read of an operation that can only do without what is zero."""
        depends, varies, values = self._along(x, mask.dim)
        read = varies | (values != 0)
        return Read(
            event.module, self._roots(mask.labels), None, read[None], ~read[None] & False,
            varies, depends, values, refusal=f"{event.module} reads the constant by {event.op}",
        )  # fmt: skip

    def _summed(
        self, event: Contraction, read: Read, mask: Mask, args: tuple[Any, ...], scaled: bool
    ) -> Read:
        """Returns the read of a contraction without what its second factor hides."""
        factors = PRODUCTS.get(event.op)
        if factors is None or mask.argument != factors[0]:
            return read
        x, weight = args[factors[0]], args[factors[1]]
        named = x.untyped_storage()._cdata in self._names
        if scaled or named or event.weight is None or bool(self.of(weight).any()):
            return self._without_zeros(read, weight)
        convolves = event.op == "aten.convolution"
        wiring = convolution_wiring(args) if convolves else product_wiring(weight)
        produced, wired = event.produced, wiring.wired()
        if produced is not None and len(produced) != len(wired):
            return self._without_zeros(read, weight)
        return replace(
            read,
            produced=None if produced is None else self._roots(produced),
            wired=wired,
            bordered=wiring.bordered(),
            wiring=wiring,
        )

    def _without_zeros(self, read: Read, factor: Tensor) -> Read:
        """Returns a read of a product without what a factor of zero hides."""
        if factor.dim() < 2 or factor.shape[-2] != len(read.labels):
            return read
        _, varies, values = self._along(factor, factor.dim() - 2)
        return replace(read, wired=read.wired & (varies | (values != 0)))

    def _along(self, x: Tensor, dim: int) -> list[np.ndarray]:
        """Returns of each index whether it is marked, whether it varies, and its value if not."""
        rows = x.movedim(dim, 0).reshape(x.shape[dim], -1)
        marked = self.of(x).movedim(dim, 0).reshape(x.shape[dim], -1).any(1)
        varies = marked | (rows != rows[:, :1]).any(1)
        return [t.cpu().numpy() for t in (marked, varies, rows[:, 0].double())]

    def _settled(self, read: Read, out: Tensor | None, bias: Tensor | None) -> Read:
        """Returns a read of a layer with where its constants can go, once the run is over."""
        if out is None:
            return read
        if bias is not None:
            sink = self._sink(bias, len(read.wired), 1)
            reason = "whose bias is shared or computed"
        else:
            alone = self._uses[out.untyped_storage()._cdata] == 1
            mean = self._norms.get(out.untyped_storage()._cdata)
            sink = self._sink(mean, len(read.wired), -1) if alone and mean is not None else None
            reason = "which has no bias, nor a batch norm of its own"
        if sink is None:
            return replace(read, refusal=f"{read.layer} reads the constant, {reason}")
        return replace(read, sink=sink, refusal="")

    def _sink(self, tensor: Tensor, outputs: int, sign: int) -> Sink | None:
        key = tensor.untyped_storage()._cdata
        name = self._names.get(key)
        if name is None or self._uses[key] != 1 or tensor.shape != (outputs,):
            return None
        return Sink(name, sign)

"""Watching one real run of a model and letting labels flow through it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_leaves

from torchcompress.core.errors import TraceError, UnsupportedError
from torchcompress.core.inputs import Inputs, call, map_tensors, tensors_in
from torchcompress.core.modules import named_tensors, undisturbed
from torchcompress.graph.couplings import Couplings
from torchcompress.graph.dispatch import CountedRun
from torchcompress.graph.events import Contraction, Mask
from torchcompress.graph.labels import Labels, Vector, varying
from torchcompress.graph.rules import find_rule
from torchcompress.graph.store import LabelStore


@dataclass(frozen=True)
class Trace:
    """What one run of a model has shown.

    Attributes:
        couplings: Which labels go together and which are frozen.
        tensors: Labels of every parameter and buffer, by name.
        contractions: The convolutions and matrix products, in order.
        unknown: How often each operation without a rule ran.
        unread: Names of the tensors that no operation read, such as those of a branch that only
            runs in training.
    """

    couplings: Couplings
    tensors: dict[str, Labels]
    contractions: list[Contraction]
    unknown: Counter[str]
    unread: tuple[str, ...] = ()

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the run."""
        return sum(contraction.macs for contraction in self.contractions)


def trace(model: nn.Module, x: Inputs) -> Trace:
    """Runs a model once on example inputs and follows every channel through it.

    The run is in eval mode without gradients; the model is left as it was.

    Args:
        model: Any model.
        x: Example inputs.

    Raises:
        UnsupportedError: The model holds lazy, meta or sparse tensors.
        TraceError: The model fails on `x`, or `x` is not finite.
    """
    for name, tensor in named_tensors(model).items():
        if is_lazy(tensor) or tensor.is_meta or tensor.layout != torch.strided:
            raise UnsupportedError(
                "is a lazy, meta or sparse tensor, whose channels cannot be followed",
                where=name,
                hint="materialise the model first",
            )
    for name, tensor in tensors_in(x):
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise TraceError("the example input is not finite", where=name or "x")
    tracer = _Tracer(model)
    with undisturbed(model), plain_kernels(), tracer:
        output = run_model(model, x)
    unread = tracer.finish(output)
    return Trace(tracer.couplings, tracer.tensors, tracer.contractions, tracer.unknown, unread)


def run_model(model: nn.Module, x: Inputs) -> Any:
    """Calls a model on a copy of example inputs, which it may change.

    Raises:
        TraceError: The model fails; the cause is chained.
    """
    try:
        return call(model, map_tensors(Tensor.clone, x))
    except Exception as error:  # A forward pass may raise anything.
        shapes = ", ".join(f"{name or 'x'} {tuple(t.shape)}" for name, t in tensors_in(x))
        raise TraceError(
            f"the model fails on the example input ({shapes}): {error}",
            where=type(model).__name__,
            hint="give example inputs of the shape, dtype and device that the model is called with",
        ) from error


@contextmanager
def plain_kernels() -> Iterator[None]:
    """Switches autocast and the fused attention path off for a block."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


class _Tracer(CountedRun):
    """The mode that lets labels flow; the `Context` of every rule."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.couplings = Couplings()
        self.tensors: dict[str, Labels] = {}
        self.contractions: list[Contraction] = []
        self.unknown: Counter[str] = Counter()
        self._store = LabelStore(self.couplings)
        self._names: dict[int, str] = {}
        self._read: set[str] = set()
        self._written: set[int] = set()
        self._operation = ""
        self._held: list[Tensor] = []
        for name, tensor in named_tensors(model).items():
            dims = tuple(varying(self.couplings.new(size)) for size in tensor.shape)
            self.tensors[name] = Labels(dims)
            self._store.set(tensor, self.tensors[name])
            self._names[tensor.untyped_storage()._cdata] = name
            self._held.append(tensor)

    def run(
        self, func: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Runs one operation and applies its rule."""
        out = func(*args, **kwargs)
        self._operation = str(func.overloadpacket)
        self._written = {
            id(value)
            for position, argument in enumerate(func._schema.arguments)
            if argument.alias_info is not None and argument.alias_info.is_write
            for value in [args[position] if position < len(args) else kwargs.get(argument.name)]
        }
        rule = find_rule(func)
        if rule is not None:
            rule(self, args, kwargs, out)
        else:
            self._stop(args, kwargs)
        return out

    def _stop(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Freezes what an operation without a rule reads or writes."""
        self.unknown[self._operation] += 1
        for value in tree_leaves((args, kwargs)):
            if isinstance(value, Tensor):
                for vector in self.labels(value).vectors():
                    self.couplings.freeze(vector, f"meets {self._operation}, which has no rule")
                if id(value) in self._written:
                    self.set(value, Labels.none(value.dim()))

    def labels(self, tensor: Tensor) -> Labels:
        """Returns the labels of a tensor."""
        name = self.name(tensor)
        if name is not None:
            self._read.add(name)
        return self._store.get(tensor)

    def set(self, tensor: Tensor, labels: Labels) -> None:
        """Labels a result, or what an in-place operation has written."""
        if id(tensor) in self._written:
            self._store.write(tensor, labels)
        else:
            self._store.set(tensor, labels)

    def name(self, tensor: Tensor) -> str | None:
        """Returns the name of the parameter or buffer that a tensor is or views, or None."""
        return self._names.get(tensor.untyped_storage()._cdata)

    def contraction(
        self,
        weight: str | None,
        output: Tensor,
        axes: Sequence[tuple[int, Vector | None]],
        masks: Sequence[Mask],
        produced: Vector | None = None,
        groups: Vector | None = None,
    ) -> None:
        """Records a contraction over an iteration space of `(size, labels)` axes."""
        factor = 1
        for size, vector in axes:
            factor *= size if vector is None else 1
        self.contractions.append(
            Contraction(
                self.index,
                self._operation,
                weight,
                tuple(output.shape),
                factor,
                tuple(vector for _, vector in axes if vector is not None),
                tuple(masks),
                produced,
                groups,
            )
        )

    def finish(self, output: Any) -> tuple[str, ...]:
        """Freezes what reaches the output or never ran, and settles the grids.

        Returns the names of what never ran.

        Raises:
            TraceError: The output holds no tensor that could be found.
        """
        outputs = list(tensors_in(output))
        if not outputs:
            raise TraceError(
                f"no tensor is found in the output, a {type(output).__name__}",
                hint="return tensors in tuples, lists, dicts or dataclasses",
            )
        for _, tensor in outputs:
            for vector in self.labels(tensor).vectors():
                self.couplings.freeze(vector, "reaches the output")
        unread = tuple(name for name in self.tensors if name not in self._read)
        for name in unread:
            for vector in self.tensors[name].vectors():
                self.couplings.freeze(vector, "was not used in the run")
        self.couplings.resolve()
        return unread

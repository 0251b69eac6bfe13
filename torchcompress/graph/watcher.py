"""What watches a run: labels flow through each operation as it happens."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from torchcompress.core.errors import TraceError
from torchcompress.core.inputs import Inputs, tensors_in
from torchcompress.core.modules import named_tensors
from torchcompress.graph.calls import Calls
from torchcompress.graph.couplings import Couplings
from torchcompress.graph.course import Decision, Key, decides, floating, kept
from torchcompress.graph.dispatch import CountedRun
from torchcompress.graph.events import Contraction, Mask, Resize, Selection
from torchcompress.graph.labels import Labels, Vector
from torchcompress.graph.operands import tensors_among, written
from torchcompress.graph.record import Trace
from torchcompress.graph.rules import FIXED, apply_rule, find_rule
from torchcompress.graph.running import Conditions, random_state, run_model
from torchcompress.graph.store import LabelStore
from torchcompress.graph.unread import Awaited
from torchcompress.graph.whole_norms import normed_as_a_whole


class Watcher(CountedRun):
    """The mode that lets labels flow; the `Context` of every rule.

    Args:
        model: The model that will run; a copy that nobody else needs.
        attention: As in `trace`.

    Attributes:
        drew: The run drew random numbers.
    """

    def __init__(self, model: nn.Module, attention: str = "heads") -> None:
        super().__init__()
        self.attention = attention
        self.couplings = Couplings()
        self.tensors: dict[str, Labels] = {}
        self.contractions: list[Contraction] = []
        self.selections: list[Selection] = []
        self.unknown: Counter[str] = Counter()
        self._store = LabelStore(self.couplings)
        self._model = model
        self._calls = Calls(model, self._store.get)
        self._names: dict[int, str] = {}
        self._counts: Counter[tuple[str, str]] = Counter()
        self._decisions: dict[Key, Decision] = {}
        self._awaited = Awaited()
        self.drew = False
        self._read: set[str] = set()
        self._written: set[int] = set()
        self._operation = ""
        self._derived: list[Tensor] = []
        self._held = named_tensors(model)
        self._before: dict[str, Tensor] = {}
        sizes = [size for tensor in self._held.values() for size in tensor.shape if size > 1]
        ends = np.cumsum(sizes, dtype=np.int64)
        vectors = iter(np.split(self.couplings.new(sum(sizes)), ends[:-1]))
        for name, tensor in self._held.items():
            dims = tuple(next(vectors) if size > 1 else None for size in tensor.shape)
            self.tensors[name] = Labels(dims)
            self._store.set(tensor, self.tensors[name])
            self._names[tensor.untyped_storage()._cdata] = name
        for name in normed_as_a_whole(model):
            for vector in self.tensors[name].vectors():
                self.couplings.freeze(vector, "is divided by a norm of the whole weight")

    def watch(self, model: nn.Module, x: Inputs, conditions: Conditions) -> Trace:
        """Runs the model once and returns what was seen; `settled` has the last word.

        Raises:
            TraceError: The model fails, or its output holds no tensor that could be found.
        """
        self.restart()
        self.contractions, self.selections, self.unknown = [], [], Counter()
        self._counts, self._decisions, self._awaited = Counter(), {}, Awaited()
        try:
            with conditions.hold(model), self._calls.followed():
                before = random_state()
                with self:
                    output = run_model(model, x)
                self.drew = random_state() != before
        finally:
            for name, tensor in self._before.items():
                self._held[name].data.copy_(tensor)
        outputs = dict(tensors_in(output))
        if not outputs:
            raise TraceError(
                f"no tensor is found in the output, a {type(output).__name__}",
                hint="return tensors in tuples, lists, dicts or dataclasses",
            )
        for tensor in outputs.values():
            for vector in self.labels(tensor).vectors():
                self.couplings.freeze(vector, "reaches the output")
        unread = self._awaited.unread()
        selections = [selection for selection in self.selections if selection.index not in unread]
        for selection in selections:
            for vector in selection.inexact:
                self.couplings.mark_inexact(vector, f"is read whole by {selection.op}")
        return Trace(
            self.couplings,
            self.tensors,
            self.contractions,
            selections,
            self.unknown,
            self._calls.by_path,
            outputs={name: tuple(tensor.shape) for name, tensor in outputs.items()},
            decisions=self._decisions,
            conditions=replace(conditions, writes=bool(self._before)),
        )

    def run(
        self, func: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Runs one operation and applies its rule."""
        self._operation = str(func.overloadpacket)
        self.couplings.operation = self._operation.removeprefix("aten.").removesuffix("_")
        targets = written(func, args, kwargs)
        self._written = {id(value) for value in targets}
        for value in targets:
            name = self.name(value)
            if name is not None:
                self._before.setdefault(name, self._held[name].detach().clone())
        self._awaited.meet(func, (args, kwargs))
        out = func(*args, **kwargs)
        rule, before = find_rule(func), len(self.selections)
        if rule is not None:
            apply_rule(rule, self._operation, self, args, kwargs, out)
        else:
            self._stop(args, kwargs)
        if len(self.selections) > before and not self.selections[-1].writes:
            self._awaited.add(self.index, out)
        if decides(func, args, out):
            self._decide(args, out)
        return out

    def _decide(self, args: tuple[Any, ...], out: Any) -> None:
        """Notes a decision."""
        place = self._calls.running, self._operation
        key = *place, self._counts[place]
        self._counts[place] += 1
        self._decisions[key] = Decision(
            tuple(tuple(tensor.shape) for tensor in floating(args)),
            tree_map(kept, out),
            tuple(v for tensor in tensors_among(out) for v in self.labels(tensor).vectors()),
        )

    def _stop(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Freezes what an operation without a rule reads or writes."""
        self.unknown[self._operation] += 1
        for tensor in tensors_among((args, kwargs)):
            for vector in self.labels(tensor).vectors():
                self.couplings.freeze(vector, f"meets {self._operation}, which has no rule")
            if id(tensor) in self._written:
                self.set(tensor, Labels.none(tensor.dim()))

    @property
    def module(self) -> nn.Module:
        """The innermost module that runs."""
        return self._model.get_submodule(self._calls.running)

    def labels(self, tensor: Tensor) -> Labels:
        """Returns the labels of a tensor."""
        name = self.name(tensor)
        if name is not None:
            self._read.add(name)
        return self._store.get(tensor)

    def set(self, tensor: Tensor, labels: Labels) -> None:
        """Labels a result, or what an in-place operation has written.

        What is written into a parameter or buffer meets its channels.
        """
        if id(tensor) in self._written:
            if self.name(tensor) is not None and not labels.neutral:
                for own, new in zip(self._store.get(tensor).dims, labels.dims, strict=True):
                    self.couplings.couple(own, new, FIXED)
            self._store.write(tensor, labels)
        else:
            self._store.set(tensor, labels)

    def name(self, tensor: Tensor) -> str | None:
        """Returns the name of the parameter or buffer that a tensor is or views, or None."""
        return self._names.get(tensor.untyped_storage()._cdata)

    def derive(self, weight: Tensor, parameter: Tensor) -> None:
        """Gives a weight that is computed from a parameter the name of that parameter."""
        name = self.name(parameter)
        if name is not None:
            self._names[weight.untyped_storage()._cdata] = name
            self._derived.append(weight)  # Its address is not for another tensor while it counts.

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
                self._calls.running,
            )
        )

    def selection(
        self,
        reads: Sequence[Mask],
        writes: Sequence[Mask],
        resize: Resize | None = None,
        *,
        inexact: Iterable[Vector] | None = None,
        groups: Vector | None = None,
    ) -> None:
        """Records that the operation reads labelled dimensions as a whole; see `Selection`."""
        if self._written:
            for mask in reads:
                self.couplings.freeze(mask.labels, f"meets {self._operation} in place or `out=`")
        elif reads:
            self.selections.append(
                Selection(
                    self.index,
                    self._operation,
                    self._calls.running,
                    tuple(reads),
                    tuple(writes),
                    resize,
                    groups,
                    tuple((mask.labels for mask in reads) if inexact is None else inexact),
                )
            )

    def unread(self) -> tuple[str, ...]:
        """Returns the names of the tensors with channels that no operation has read."""
        return tuple(
            name
            for name, labels in self.tensors.items()
            if labels.labelled and name not in self._read
        )

    def settled(self, seen: Trace, training: Trace | None, unread: tuple[str, ...]) -> Trace:
        """Freezes what never ran, settles the grids and keeps the decisions that hold for any cut.

        Args:
            seen: The run.
            training: The run of a branch that only training takes.
            unread: What neither has read.
        """
        for name in unread:
            for vector in self.tensors[name].vectors():
                self.couplings.freeze(vector, "was not used in the run")
        self.couplings.resolve()
        self._freeze_unread(seen, training)
        if training is not None:
            training = replace(training, decisions=self._lasting(training))
        return replace(seen, unread=unread, decisions=self._lasting(seen), training=training)

    def _freeze_unread(self, *runs: Trace | None) -> None:
        """Freezes layers of whose channels nothing reads any: they may leave by another way.

        So do channels of other tensors, such as the positions of a table beyond the input's length.
        """
        events = [event for run in runs if run is not None for event in run.events]
        made = [e.produced for e in events if isinstance(e, Contraction) and e.produced is not None]
        reads = [
            m.labels for e in events for m in (e.masks if isinstance(e, Contraction) else e.reads)
        ]
        read = self.couplings.roots(np.concatenate([np.zeros(1, np.int64), *reads]))
        is_read = self.couplings.among(read)
        for vector in made:
            if not is_read(vector).any():
                self.couplings.freeze(vector, "is read by nothing: it may be a result of its own")
        takes_part = self.couplings.among(
            self.couplings.roots(np.concatenate([np.zeros(1, np.int64), *reads, *made]))
        )
        own = [vector for labels in self.tensors.values() for vector in labels.vectors()]
        every = np.concatenate([np.zeros(0, np.int64), *own])
        self.couplings.freeze(every[~takes_part(every)], "was not used in the run")

    def _lasting(self, seen: Trace) -> dict[Key, Decision]:
        """Returns the decisions whose results no cut changes in shape."""
        return {
            key: decision
            for key, decision in seen.decisions.items()
            if all(
                not label or self.couplings.reason(label)
                for vector in decision.labels
                for label in set(vector.tolist())
            )
        }

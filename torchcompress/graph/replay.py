"""The reference of every proof: the original model with channels zeroed at their consumers."""

from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from torchcompress.core.errors import TraceError
from torchcompress.core.inputs import Inputs
from torchcompress.graph.course import Course
from torchcompress.graph.dispatch import CountedRun
from torchcompress.graph.events import Contraction, Mask, Selection
from torchcompress.graph.record import Trace
from torchcompress.graph.running import run_model


def run_with_channels_zeroed(
    model: nn.Module, x: Inputs, trace: Trace, removed: set[int], course: Course | None = None
) -> tuple[Any, set[int]]:
    """Runs a model and zeroes removed channels wherever a contraction reads them.

    An operation that reads a dimension as a whole runs without them; see `Selection`.

    Args:
        model: A model that takes the path which was traced.
        x: Inputs of the traced shapes.
        trace: What the traced run has shown.
        removed: Representative labels of the channels to zero.
        course: Takes the decisions of the run; by default it decides for itself.

    Returns:
        The output, and the removed labels that carried anything but zeros.

    Raises:
        TraceError: The run takes another path than the traced one.
    """
    course = course or Course({})
    replay = _Replay(trace, removed, course)
    with trace.conditions.hold(model), course.followed(model), replay:
        output = run_model(model, x)
    replay.check_complete()
    return output, replay.alive


class _Replay(CountedRun):
    def __init__(self, trace: Trace, removed: set[int], course: Course) -> None:
        super().__init__()
        self._course = course
        self.alive: set[int] = set()
        self._gone = trace.couplings.among(np.fromiter(removed, np.int64))
        self._roots = trace.couplings.roots
        self._at: dict[int, Contraction | Selection] = {
            event.index: event for event in trace.events
        }

    def run(
        self, func: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Runs one operation on operands whose removed channels are zeroed or left out."""
        event = self._at.pop(self.index, None)
        if event is None:
            return self._course.taken(func, args, func(*args, **kwargs))
        if event.op != str(func.overloadpacket):
            self._stray(f"operation {self.index} is {func.overloadpacket}, not {event.op}")
        operands: dict[int | str, Any] = {**dict(enumerate(args)), **kwargs}
        chosen = isinstance(event, Selection)
        for mask in event.reads if chosen else event.masks:
            operands[mask.argument] = self._operand(operands[mask.argument], mask, chosen)
        args = tuple(operands[position] for position in range(len(args)))
        if chosen and event.resize is not None:
            args = event.resize(args, lambda labels: int((~self._gone(labels)).sum()))
        kwargs = {name: operands[name] for name in kwargs}
        result = self._course.taken(func, args, func(*args, **kwargs))
        return self._scattered(result, event) if chosen else result

    def _operand(self, tensor: Tensor, mask: Mask, chosen: bool) -> Tensor:
        """Returns an operand whose removed channels are zeroed, or left out where `chosen`."""
        gone = self._gone(mask.labels)
        if len(gone) != tensor.shape[mask.dim]:
            self._stray(f"operation {self.index} has another shape")
        if not gone.any():
            return tensor
        where = torch.from_numpy(np.flatnonzero(gone)).to(tensor.device)
        taken = tensor.index_select(mask.dim, where).movedim(mask.dim, 0)
        nonzero = taken.reshape(len(where), -1).ne(0).any(1).cpu().numpy()
        self.alive.update(self._roots(mask.labels)[gone][nonzero].tolist())
        if chosen:
            return _taken(tensor, mask.dim, np.flatnonzero(~gone))
        return tensor.index_fill(mask.dim, where, 0)

    def _scattered(self, result: Any, event: Selection) -> Any:
        """Returns the results at their original sizes, with zeros for what is gone."""
        results = list(result) if isinstance(result, tuple) else [result]
        for mask in event.writes:
            gone, position = self._gone(mask.labels), int(mask.argument)
            if gone.any():
                rank = np.maximum(np.cumsum(~gone) - 1, 0)
                full = _taken(results[position], mask.dim, rank)
                zeros = torch.from_numpy(np.flatnonzero(gone)).to(full.device)
                results[position] = full.index_fill_(mask.dim, zeros, 0)
        return tuple(results) if isinstance(result, tuple) else results[0]

    def check_complete(self) -> None:
        """Raises where a traced contraction did not run again."""
        if self._at:
            self._stray(f"operation {min(self._at)} did not run again")

    def _stray(self, what: str) -> None:
        raise TraceError(
            f"the model takes another path than in the traced run: {what}",
            hint="make the forward pass deterministic in eval mode",
        )


def _taken(tensor: Tensor, dim: int, indices: np.ndarray) -> Tensor:
    """Returns some indices of a dimension in the tensor's own memory format."""
    order = sorted(range(tensor.dim()), key=tensor.stride, reverse=True)
    back = [order.index(d) for d in range(tensor.dim())]
    where = torch.from_numpy(indices).to(tensor.device)
    return tensor.permute(order).index_select(back[dim], where).permute(back)


def run_on_course(model: nn.Module, x: Inputs, trace: Trace, course: Course) -> Any:
    """Runs a model, cut or not, under the conditions of a traced run.

    Args:
        model: The model.
        x: Inputs of the traced shapes.
        trace: What the traced run has shown.
        course: Takes the decisions of the run.

    Raises:
        TraceError: The model fails.
    """
    deciding = _Decided(course) if trace.decisions else nullcontext()
    with trace.conditions.hold(model), course.followed(model), deciding:
        return run_model(model, x)


class _Decided(CountedRun):
    def __init__(self, course: Course) -> None:
        super().__init__()
        self._course = course

    def run(
        self, func: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Runs one operation."""
        return self._course.taken(func, args, func(*args, **kwargs))

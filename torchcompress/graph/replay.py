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
from torchcompress.graph.events import Contraction, Mask
from torchcompress.graph.running import run_model
from torchcompress.graph.tracer import Trace


def run_with_channels_zeroed(
    model: nn.Module, x: Inputs, trace: Trace, removed: set[int], course: Course | None = None
) -> tuple[Any, set[int]]:
    """Runs a model and zeroes removed channels wherever a contraction reads them.

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
    replay = _Replay(trace, removed, course or Course({}))
    with trace.conditions.hold(model), replay:
        output = run_model(model, x)
    replay.check_complete()
    return output, replay.alive


class _Replay(CountedRun):
    def __init__(self, trace: Trace, removed: set[int], course: Course) -> None:
        super().__init__()
        self._course = course
        self.alive: set[int] = set()
        self._removed = np.fromiter(removed, np.int64, len(removed))
        self._roots = trace.couplings.roots
        self._at: dict[int, Contraction] = {c.index: c for c in trace.contractions}

    def run(
        self, func: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Runs one operation on operands whose removed channels are zeroed."""
        expected = self._at.pop(self.index, None)
        if expected is not None:
            if expected.op != str(func.overloadpacket):
                self._stray(f"operation {self.index} is {func.overloadpacket}, not {expected.op}")
            operands = list(args)
            for mask in expected.masks:
                operands[mask.argument] = self._zeroed(operands[mask.argument], mask)
            args = tuple(operands)
        return self._course.taken(func, args, func(*args, **kwargs))

    def _zeroed(self, tensor: Tensor, mask: Mask) -> Tensor:
        roots = self._roots(mask.labels)
        gone = np.isin(roots, self._removed)
        if len(gone) != tensor.shape[mask.dim]:
            self._stray(f"operation {self.index} has another shape")
        if not gone.any():
            return tensor
        where = torch.from_numpy(np.flatnonzero(gone)).to(tensor.device)
        taken = tensor.index_select(mask.dim, where).transpose(0, mask.dim).flatten(1)
        nonzero = taken.ne(0).any(1).cpu().numpy()
        self.alive.update(roots[gone][nonzero].tolist())
        return tensor.index_fill(mask.dim, where, 0)

    def check_complete(self) -> None:
        """Raises where a traced contraction did not run again."""
        if self._at:
            self._stray(f"operation {min(self._at)} did not run again")

    def _stray(self, what: str) -> None:
        raise TraceError(
            f"the model takes another path than in the traced run: {what}",
            hint="make the forward pass deterministic in eval mode",
        )


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
    with trace.conditions.hold(model), _Decided(course) if trace.decisions else nullcontext():
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

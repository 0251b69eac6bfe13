"""The reference of every proof: the original model with channels zeroed at their consumers."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from torchcompress.core.errors import TraceError
from torchcompress.core.inputs import Inputs
from torchcompress.core.modules import undisturbed
from torchcompress.graph.dispatch import CountedRun
from torchcompress.graph.events import Contraction, Mask
from torchcompress.graph.tracer import Trace, plain_kernels, run_model


def run_with_channels_zeroed(
    model: nn.Module, x: Inputs, trace: Trace, removed: set[int]
) -> tuple[Any, set[int]]:
    """Runs a model and zeroes removed channels wherever a contraction reads them.

    Args:
        model: A model that takes the path which was traced.
        x: Inputs of the traced shapes.
        trace: What the traced run has shown.
        removed: Representative labels of the channels to zero.

    Returns:
        The output, and the removed labels that carried anything but zeros.

    Raises:
        TraceError: The run takes another path than the traced one.
    """
    replay = _Replay(trace, removed)
    with undisturbed(model), plain_kernels(), replay:
        output = run_model(model, x)
    replay.check_complete()
    return output, replay.alive


class _Replay(CountedRun):
    def __init__(self, trace: Trace, removed: set[int]) -> None:
        super().__init__()
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
        return func(*args, **kwargs)

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

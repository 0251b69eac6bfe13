"""Importance that looks at the activations."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from torchcompress.core.errors import CompressError, TraceError
from torchcompress.core.inputs import calibration_batches, call, map_tensors, run_batch, to_device
from torchcompress.core.modules import device_of
from torchcompress.graph.dispatch import CountedRun
from torchcompress.graph.record import Trace
from torchcompress.pruning.importance.base import Evidence, Importance, Scores


@dataclass(frozen=True, kw_only=True)
class Variance(Importance):
    """The variance of a unit's activations over the data, where layers read it.

    A channel that hardly varies carries a constant, which a bias can hold (Polyak and Wolf 2015,
    "Channel-Level Acceleration of Deep Face Representations"). Labels are not needed.
    """

    name: ClassVar[str] = "variance"
    needs_data: ClassVar[bool] = True

    def scores(self, evidence: Evidence) -> Scores:
        """Returns the score of every unit of every group."""
        read = _read_moments(evidence)
        scores = {}
        for group in evidence.groups:
            parts = [
                part for moments in read if (part := moments.variances(group.labels)) is not None
            ]
            scores[group.name] = self.combine(parts) if parts else np.ones(group.units)
        return scores


@dataclass
class _Moments:
    """Running moments of the activations that one operand of a contraction carries.

    Attributes:
        roots: The label of each of its channels.
        count: Values seen of each channel.
        mean: Their mean.
        squares: Their summed squared distance from the mean.
    """

    roots: np.ndarray
    count: int = 0
    mean: np.ndarray = field(default_factory=lambda: np.zeros(1))
    squares: np.ndarray = field(default_factory=lambda: np.zeros(1))

    def add(self, operand: Tensor, dim: int) -> None:
        """Adds the values of a batch (Chan et al. 1983)."""
        rows = operand.detach().movedim(dim, 0).flatten(1).to(torch.float64)
        mean = rows.mean(1).cpu().numpy()
        squares = rows.var(1, correction=0).cpu().numpy() * rows.shape[1]
        total = self.count + rows.shape[1]
        apart = mean - self.mean
        self.squares = self.squares + squares + apart**2 * self.count * rows.shape[1] / total
        self.mean = self.mean + apart * rows.shape[1] / total
        self.count = total

    def variances(self, labels: np.ndarray) -> np.ndarray | None:
        """Returns the mean variance of the channels of each label; None where one is not read."""
        position = {int(label): index for index, label in enumerate(labels)}
        unit = np.array([position.get(int(root), -1) for root in self.roots])
        mine = unit >= 0
        count = np.bincount(unit[mine], minlength=len(labels))
        if not count.all():
            return None
        summed = np.bincount(unit[mine], self.squares[mine] / self.count, len(labels))
        return summed / count


def _read_moments(evidence: Evidence) -> list[_Moments]:
    if evidence.data is None:
        raise CompressError("the importance needs batches", where="data", hint="pass data=loader")
    model, device = evidence.model, device_of(evidence.model)
    moments: dict[tuple[int, int | str], _Moments] = {}
    run = evidence.forward or call
    for index, batch in calibration_batches(evidence.data, evidence.forward, "data"):
        watch = _Watch(evidence.seen, moments)
        hook = model.register_forward_pre_hook(watch.begin, prepend=True, with_kwargs=True)
        try:
            with evidence.seen.conditions.hold(model), watch:
                run_batch(run, model, to_device(batch, device), f"data batch {index}")
        finally:
            hook.remove()
        if watch.strays():
            raise TraceError(
                "the model takes another path than on the example input",
                where=f"data batch {index}",
                hint="give example inputs like the batches",
            )
    return list(moments.values())


class _Watch(CountedRun):
    """Adds up what each contraction of a traced run reads."""

    def __init__(self, seen: Trace, moments: dict[tuple[int, int | str], _Moments]) -> None:
        super().__init__()
        self._roots = seen.couplings.roots
        self._moments = moments
        self._at = {event.index: (event.op, event.masks) for event in seen.contractions}
        self._ops = {op for op, _ in self._at.values()}
        self._met: list[int] = []

    def begin(self, _: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """Starts to count where the traced run did, which copied its inputs."""
        self.index = -1
        return map_tensors(Tensor.clone, args), map_tensors(Tensor.clone, kwargs)

    def run(
        self, func: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Runs one operation after a look at the operands that a contraction reads."""
        op, masks = self._at.get(self.index, ("", ()))
        name = str(func.overloadpacket)
        if name in self._ops:
            self._met.append(self.index if name == op else -1)
            operands: dict[int | str, Any] = {**dict(enumerate(args)), **kwargs}
            for mask in masks if name == op else ():
                moments = self._moments.setdefault(
                    (self.index, mask.argument), _Moments(self._roots(mask.labels))
                )
                moments.add(operands[mask.argument], mask.dim)
        return func(*args, **kwargs)

    def strays(self) -> bool:
        """Whether the run met other contractions than the traced one."""
        return self._met != sorted(self._at)

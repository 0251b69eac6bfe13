"""What every importance shares: what it may look at, and how parts become one score a unit."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from torch import Tensor, nn

from torchcompress.core.errors import CompressError, did_you_mean
from torchcompress.core.inputs import Forward
from torchcompress.graph.groups import Group
from torchcompress.graph.record import Trace

Scores = dict[str, np.ndarray]
"""For each group, by name, one score a unit; the lowest go first."""

Loss = Callable[[Any, Any], Tensor]
"""Called with the model's output and the labels of a batch; returns a scalar."""

Reduce = Literal["mean", "sum", "max", "first"]
Normalize = Literal["mean", "sum", "max", "none"]

_REDUCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mean": lambda parts: np.abs(parts.mean(0)),
    "sum": lambda parts: np.abs(parts.sum(0)),
    "max": lambda parts: np.abs(parts).max(0),
    "first": lambda parts: np.abs(parts[0]),
}
_SCALES: dict[str, Callable[[np.ndarray], float]] = {
    "mean": lambda part: float(part.mean()),
    "sum": lambda part: float(part.sum()),
    "max": lambda part: float(part.max()),
    "none": lambda part: 1.0,
}


@dataclass(frozen=True)
class Evidence:
    """What an importance may look at.

    Attributes:
        model: The model; an importance leaves it as it was.
        seen: What its traced run has shown.
        groups: The coupled groups to score.
        tensors: Its parameters and buffers by name.
        data: Batches, or None.
        loss: What a batch is scored with, None for the cross entropy.
        forward: How the model is called on a batch, None for the usual reading of a batch.
        quantity: What the target counts.
    """

    model: nn.Module
    seen: Trace
    groups: list[Group]
    tensors: dict[str, Tensor]
    data: Iterable[Any] | None = None
    loss: Loss | None = None
    forward: Forward | None = None
    quantity: str = "macs"


@dataclass(frozen=True, kw_only=True)
class Importance(ABC):
    """How much each unit of a coupled group matters.

    A group lives in several tensors, and each gives a part of the score.

    Args:
        reduce: How the parts become one score: `mean`, `sum`, `max`, or the `first` alone.
        normalize: What each part is divided by, so that layers compare: its `mean`, `sum` or
            `max` over the layer, or `none`.

    Raises:
        CompressError: An option that does not exist.
    """

    name: ClassVar[str]
    needs_data: ClassVar[bool] = False

    reduce: Reduce = "mean"
    normalize: Normalize = "mean"

    def __post_init__(self) -> None:
        for option, known in {"reduce": _REDUCTIONS, "normalize": _SCALES}.items():
            value = getattr(self, option)
            if value not in known:
                raise CompressError(
                    f"{value!r} is not a way to {option}",
                    where=f"importance {self.name}",
                    hint=did_you_mean(str(value), known),
                )

    @abstractmethod
    def scores(self, evidence: Evidence) -> Scores:
        """Returns the score of every unit of every group.

        Args:
            evidence: What may be looked at.
        """

    def notes(self, evidence: Evidence) -> dict[str, str]:
        """Returns what the user should know about the score of a group, by its name."""
        return {}

    def combine(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """Returns one score a unit.

        Args:
            parts: For each tensor the parts of all units; they may have a sign.
        """
        return _REDUCTIONS[self.reduce](np.stack([self._normalised(part) for part in parts]))

    def _normalised(self, part: np.ndarray) -> np.ndarray:
        scale = _SCALES[self.normalize](np.abs(part))
        return part / scale if scale > 0 else part


CustomImportance = Callable[[list[Group], dict[str, Tensor]], Mapping[str, Any]]
"""Called with the groups and the model's tensors; returns one score a unit for each group."""


def score_units(importance: Importance | CustomImportance, evidence: Evidence) -> Scores:
    """Returns the score of every unit of every group.

    Args:
        importance: One of this package, or a function `(groups, tensors) -> {name: scores}`.
        evidence: What may be looked at.

    Raises:
        CompressError: An importance that leaves a group out, gives it another number of scores,
            or one that is not finite.
    """
    if isinstance(importance, Importance):
        given: Mapping[str, Any] = importance.scores(evidence)
    else:
        given = importance(evidence.groups, evidence.tensors)
        if not isinstance(given, Mapping):
            raise CompressError(
                f"the function returns {type(given).__name__}, not a dict",
                where="importance",
                hint="return one score a unit for each group, by its name",
            )
    return {group.name: _checked(group, given) for group in evidence.groups}


def _checked(group: Group, given: Mapping[str, Any]) -> np.ndarray:
    where = f"importance of {group.name}"
    if group.name not in given:
        raise CompressError("it gives no scores", where=where)
    value = given[group.name]
    scores = np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value, np.float64)
    if scores.shape != (group.units,):
        raise CompressError(
            f"it gives scores of shape {scores.shape}, not ({group.units},)", where=where
        )
    if not np.isfinite(scores).all():
        raise CompressError("it gives NaN or infinity", where=where)
    return scores

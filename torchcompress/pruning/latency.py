"""Pruning to a time: what a cut saves by the measured table, and what the cut model then takes."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from torch import nn

from torchcompress.core.inputs import Inputs
from torchcompress.graph.groups import Group
from torchcompress.graph.labels import Vector
from torchcompress.graph.macs import Term
from torchcompress.graph.tracer import Trace
from torchcompress.metrics import LatencyTable, LayerTimes, measure_latency
from torchcompress.pruning.counts import AxisLengths, CountedCost
from torchcompress.pruning.importance import Scores

_TINY = 1e-6
"""A group that saves less than this share of the time saves nothing."""


@dataclass(frozen=True, kw_only=True)
class PlannedLatency:
    """The time that a plan was made for.

    Attributes:
        table: What the layers took; the plan follows it and never measures again.
        predicted_ms: Milliseconds of the cut model by the table.
        measured_ms: Milliseconds of the model before and after, measured in turns; None where the
            table is not about float models.
    """

    table: LatencyTable
    predicted_ms: float
    measured_ms: tuple[float, float] | None

    def to_json(self) -> dict[str, Any]:
        """Returns the times as JSON values."""
        return {
            "table": self.table.to_json(),
            "predicted_ms": self.predicted_ms,
            "measured_ms": None if self.measured_ms is None else list(self.measured_ms),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Returns the times that `to_json` described."""
        measured = data["measured_ms"]
        return cls(
            table=LatencyTable.from_json(data["table"]),
            predicted_ms=data["predicted_ms"],
            measured_ms=None if measured is None else (measured[0], measured[1]),
        )

    def __str__(self) -> str:
        setting = f"{self.table.precision}, threads={self.table.threads}, {self.table.layout}"
        if self.measured_ms is None:
            before, after, how = self.table.model_ms, self.predicted_ms, "by the table"
        else:
            (before, after), how = self.measured_ms, "measured in turns"
        share = 100 * after / before
        return f"latency: {before:.3g} -> {after:.3g} ms ({share:.1f} %), {setting}, {how}"


class CountedLatency:
    """Milliseconds of a model, by how many units go of each group.

    What the table's layers do not explain, such as norms, activations and additions, falls with
    the size of the layers' outputs.

    Args:
        table: The times of the layers.
        seen: What the traced run has shown.
        orders: For each group the labels of its units, in the order in which they go.
    """

    def __init__(self, table: LatencyTable, seen: Trace, orders: Sequence[Vector]) -> None:
        roots = seen.couplings.roots
        calls: dict[str, int] = defaultdict(int)
        axes: list[Vector] = []
        sizes: list[Term] = []
        self._times: list[tuple[LayerTimes, int | None, int | None]] = []

        def axis(vector: Vector | None) -> int | None:
            if vector is None:
                return None
            axes.append(roots(vector))
            return len(axes) - 1

        for event in seen.contractions:
            size = int(np.prod(event.output_shape))
            made = [] if event.produced is None else [roots(event.produced)]
            sizes.append((size // made[0].size if made else size, made))
            times = table.layers.get(event.layer, ()) if event.layer is not None else ()
            call = calls[event.layer or ""]
            calls[event.layer or ""] += 1
            if call < len(times):
                read = event.masks[0].labels if event.masks else None
                self._times.append((times[call], axis(read), axis(event.produced)))
        self._lengths = AxisLengths(axes, orders)
        self._outputs = CountedCost(sizes, orders)
        nothing = np.zeros(len(orders), np.int64)
        layers, outputs = self._layers(nothing), self._outputs(nothing)
        self._share = min(1.0, table.model_ms / layers) if layers else 1.0
        self._rest = (table.model_ms - self._share * layers) / outputs

    def __call__(self, counts: np.ndarray) -> float:
        """Returns the milliseconds.

        Args:
            counts: How many units go of each group.
        """
        return self._share * self._layers(counts) + self._rest * self._outputs(counts)

    def _layers(self, counts: np.ndarray) -> float:
        lengths = self._lengths(counts)
        return sum(
            times.at(
                times.inputs[-1] if read is None else int(lengths[read]),
                times.outputs[-1] if made is None else int(lengths[made]),
            )
            for times, read, made in self._times
        )


def scores_by_time(
    scores: Scores, groups: Sequence[Group], most: np.ndarray, latency: CountedLatency
) -> Scores:
    """Returns scores over the milliseconds that a group still takes when the unit would go.

    So the next unit to go is the one that matters least for the time that its group still takes.
    The order inside a group stays. A group that saves no time keeps its units as long as it can.

    Args:
        scores: A score for each unit of each group.
        groups: The groups that may lose units.
        most: How many units of each may go.
        latency: The time by how many go.
    """
    nothing = np.zeros(len(groups), np.int64)
    whole = latency(nothing)
    weighed = {}
    for index, group in enumerate(groups):
        counts = nothing.copy()
        counts[index] = most[index]
        saved = max(whole - latency(counts), _TINY * whole)
        order = np.argsort(scores[group.name], kind="stable")
        left = np.empty(group.units)
        left[order] = 1 - np.arange(group.units) / group.units
        weighed[group.name] = scores[group.name] / (saved * left)
    return weighed


def measure_cut(
    model: nn.Module, cut: nn.Module, x: Inputs, table: LatencyTable
) -> tuple[float, float]:
    """Returns the milliseconds of a model and of its cut form, measured in turns.

    Args:
        model: The model before.
        cut: The model after.
        x: Example inputs.
        table: Says the threads and the layout.
    """
    timings = measure_latency(
        {"before": (model, x), "after": (cut, x)},
        threads=table.threads,
        channels_last=table.layout == "channels_last",
    )
    return timings.milliseconds("before"), timings.milliseconds("after")

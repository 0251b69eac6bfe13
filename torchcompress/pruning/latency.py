"""What a model takes by a measured table, as a function of what goes."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from torchcompress.graph.groups import Group
from torchcompress.graph.labels import Vector
from torchcompress.graph.macs import Term
from torchcompress.graph.record import Trace
from torchcompress.metrics import LatencyTable, LayerTimes
from torchcompress.pruning.counts import AxisLengths, CountedCost
from torchcompress.pruning.importance import Scores

_TINY = 1e-6
"""A group that saves less than this share of the time saves nothing."""


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
    """Returns scores that fall with the time that a group takes.

    A score is divided by the square root of what the whole group saves, and by the fraction of the
    group that is left when the unit would go. So the cut goes where the time goes, and no group
    is emptied for it. The order inside a group stays; a group that saves no time is kept longest.
    The time itself in place of its root costs 2 to 5 points of accuracy at half the time on the
    two checkpoints that were tried.

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
        weighed[group.name] = scores[group.name] / (saved**0.5 * left)
    return weighed

"""Importance by what a unit's removal does to the outputs once the rest has adapted."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from torchcompress.core.errors import CompressError
from torchcompress.core.progress import progress
from torchcompress.graph.groups import Group
from torchcompress.graph.macs import RemainingCost
from torchcompress.pruning.importance.base import Evidence, Importance, Scores
from torchcompress.pruning.importance.cheapest import rank_cheapest_first, saved_terms
from torchcompress.pruning.importance.error_curves import ErrorCurves
from torchcompress.reconstruction.capture import Calibration


@dataclass(frozen=True, kw_only=True)
class Reconstruction(Importance):
    """What the model's outputs lose when a unit goes and the layers that read it are updated.

    Inside a group, units go in the order in which the rest can best make up for them (Kurtic et
    al. 2023, "ZipLM"; He et al. 2017, "Channel Pruning for Accelerating Very Deep Neural
    Networks"). The error of the whole model's outputs, measured at a few levels of each group,
    then sets groups against each other: what costs the outputs least for the MACs, parameters or
    channels that it saves goes first. Labels are not needed. A score is a place in this order.

    Groups that no solvable layer reads, such as the queries and keys of an attention, go last.
    """

    name: ClassVar[str] = "reconstruction"
    needs_data: ClassVar[bool] = True

    def scores(self, evidence: Evidence) -> Scores:
        """Returns the score of every unit of every group.

        Raises:
            CalibrationError: The batches are none, not finite, or the model fails on one.
        """
        if evidence.data is None:
            raise CompressError(
                "the importance needs batches", where="data", hint="pass data=loader"
            )
        calibration = Calibration(evidence.data, evidence.model, evidence.forward)
        curves = ErrorCurves(evidence.model, calibration)
        known = [
            (group, curve)
            for group in progress(evidence.groups, "reconstruction error", unit="group")
            if (curve := curves.of(group)) is not None
        ]
        parameters = {name for name, _ in evidence.model.named_parameters()}
        groups = [group for group, _ in known]
        terms = saved_terms(evidence.quantity, groups, RemainingCost(evidence.seen, parameters))
        scores = rank_cheapest_first(groups, [curve for _, curve in known], terms)
        last = 1 + max((float(s.max()) for s in scores.values()), default=0.0)
        return {g.name: scores.get(g.name, _shares(g) + last) for g in evidence.groups}


def _shares(group: Group) -> np.ndarray:
    return np.arange(group.units) / group.units

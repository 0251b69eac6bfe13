"""What the units of a group cost, one after the other, while the layers that read them adapt."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from torchcompress.core.modules import copied
from torchcompress.graph.groups import Group
from torchcompress.reconstruction.capture import Calibration, solvable_layers
from torchcompress.reconstruction.constants import put_constant, restored, takes_constant
from torchcompress.reconstruction.elimination import Elimination
from torchcompress.reconstruction.held_out import held_out_from, split
from torchcompress.reconstruction.layers import TRANSPOSED, Layer
from torchcompress.reconstruction.output_error import OutputError
from torchcompress.reconstruction.statistics import Moments, collect

_LEVELS = (0.25, 0.5, 0.75, 0.875)
"""How much of a group is gone where the model's error is measured."""
_STEPS = 32
"""Units of a group go in about so many steps."""
_BEYOND = 1.5
"""Power with which the error grows with the layers' own past the last level."""


@dataclass(frozen=True)
class ErrorCurve:
    """What it costs to remove the units of a group, the rest of the model being whole.

    Attributes:
        order: Positions of the units in the order in which they go.
        errors: Relative squared error of the model's outputs once the first n are gone, for n from
            0 to one less than there are.
    """

    order: np.ndarray
    errors: np.ndarray


class ErrorCurves:
    """Makes the curves of groups.

    Units go greedily: next is the one whose loss the layers that read the group can make up for
    best, relative to the energy of their outputs. At a few levels the model runs with the group
    cut so far and those layers updated, on batches that the update has not seen. Between levels
    the error follows that of the layers, as a power of it.

    Memory is that of the batches, the outputs, and twice the moments of the layers that read one
    group.

    Args:
        model: The model; left as it was.
        calibration: The batches.
    """

    def __init__(self, model: nn.Module, calibration: Calibration) -> None:
        self._model = copied(model)
        self._fit, _ = split(calibration)
        self._from = held_out_from(calibration)
        self._outputs = OutputError(model, calibration)
        self._readers: dict[str, list[Layer]] = {}
        for layer in solvable_layers(self._model, calibration):
            self._readers.setdefault(layer.parameter, []).append(layer)

    def of(self, group: Group) -> ErrorCurve | None:
        """Returns the curve of a group, or None where no layer is known that reads it."""
        readers = [
            (layer, torch.from_numpy(channels))
            for (name, dim), channels in group.members.items()
            for layer in self._readers.get(name, ())
            if dim == _input_dim(layer)
        ]
        if not readers:
            return None
        layers = [layer for layer, _ in readers]
        moments = collect(self._model, layers, self._fit)
        cuts = [
            Elimination(
                layer.weight,
                moments[layer.name].centered() if takes_constant(layer) else moments[layer.name],
                layer.kernel,
                channels % (layer.weight.shape[2] // layer.kernel),
            )
            for layer, channels in readers
        ]
        levels = {n for n in (int(level * group.units) for level in _LEVELS) if n}
        order, costs, measured = list[int](), [0.0], dict[int, float]()
        left = torch.arange(group.units)
        while len(left) > 1:
            due = min((n for n in levels if n > len(order)), default=group.units - 1)
            count = min(-(-group.units // _STEPS), due - len(order))
            found = torch.stack([cut.costs(left).cpu() for cut in cuts]).sum(0)
            taken = found.argsort(stable=True)[:count]
            for cut in cuts:
                cut.remove(left[taken])
            order += left[taken].tolist()
            costs += (costs[-1] + found[taken].clamp(min=0).cumsum(0)).tolist()
            left = left[torch.isin(left, left[taken], invert=True)]
            if len(order) in levels:
                measured[len(order)] = self._measure(layers, cuts, moments)
        return ErrorCurve(np.array([*order, *left.tolist()]), _between(np.array(costs), measured))

    def _measure(
        self, layers: Sequence[Layer], cuts: Sequence[Elimination], moments: dict[str, Moments]
    ) -> float:
        with restored(layers):
            for layer, cut in zip(layers, cuts, strict=True):
                layer.write(cut.weight)
                if takes_constant(layer):
                    put_constant(layer, moments[layer.name].constant(cut.weight))
            return self._outputs.of(self._model, self._from)


def _input_dim(layer: Layer) -> int | None:
    """Returns the dimension of the weight that holds the same inputs of each group, if any."""
    if isinstance(layer.module, TRANSPOSED):
        return 0 if layer.module.groups == 1 else None
    return 1


def _between(costs: np.ndarray, measured: dict[int, float]) -> np.ndarray:
    """Returns the model's error for every count of units that are gone.

    Args:
        costs: The error of the layers, from 0 units on, not falling.
        measured: The model's error at some counts; infinite where it gives no number.
    """
    tiny = np.finfo(np.float64).tiny
    known = sorted((n, error) for n, error in measured.items() if np.isfinite(error))
    if not known:
        return costs
    own = np.log(np.maximum(costs, tiny))
    at = own[[n for n, _ in known]]
    errors = np.maximum.accumulate(np.log(np.maximum([e for _, e in known], tiny)))
    found = np.interp(own, at, errors)
    found = np.where(own < at[0], errors[0] + own - at[0], found)
    found = np.where(own > at[-1], errors[-1] + _BEYOND * (own - at[-1]), found)
    return np.where(costs > 0, np.exp(found), 0.0)

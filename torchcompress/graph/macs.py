"""Multiply-accumulates and parameters, of a model and of each layer."""

import math
from dataclasses import dataclass

import numpy as np
from torch import nn

from torchcompress.core.inputs import Inputs
from torchcompress.core.modules import named_tensors, unwrapped
from torchcompress.graph.labels import Vector
from torchcompress.graph.record import Trace
from torchcompress.graph.tracer import trace


@dataclass(frozen=True)
class LayerCost:
    """What one layer costs in one forward pass.

    Attributes:
        name: Path of the module.
        kind: Class of the module.
        weight_shape: Shape of its weight.
        output_shape: Shape of its output, of the last call where there are several.
        params: Parameters that it owns.
        macs: Multiply-accumulates of all its calls.
    """

    name: str
    kind: str
    weight_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    params: int
    macs: int


def count_macs(model: nn.Module, x: Inputs) -> int:
    """Returns the multiply-accumulates of convolutions and matrix products in one forward pass.

    Args:
        model: Any model.
        x: Example inputs; the batch counts.
    """
    return trace(model, x).macs


def layer_costs(model: nn.Module, x: Inputs) -> list[LayerCost]:
    """Returns the cost of every layer that has a weight, in the order of their first calls.

    Args:
        model: Any model.
        x: Example inputs; the batch counts.
    """
    model = unwrapped(model)
    modules, tensors = dict(model.named_modules()), named_tensors(model)
    costs: dict[str, LayerCost] = {}
    for event in trace(model, x).contractions:
        if event.weight is None or event.layer is None:
            continue
        module = modules[event.layer]
        before = costs[event.weight].macs if event.weight in costs else 0
        costs[event.weight] = LayerCost(
            name=event.layer,
            kind=type(module).__name__,
            weight_shape=tuple(tensors[event.weight].shape),
            output_shape=event.output_shape,
            params=sum(p.numel() for p in module.parameters(recurse=False)),
            macs=before + event.macs,
        )
    return list(costs.values())


Term = tuple[int, list[Vector]]
"""A product of a factor with the length of every axis, each given by representative labels."""


class RemainingCost:
    """What remains of a traced model's cost once some labels are gone.

    Args:
        trace: What one run has shown.
        parameters: Names of the tensors that count as parameters.

    Attributes:
        mac_terms: The multiply-accumulates, a term for each contraction.
        param_terms: The parameters, a term for each tensor.
    """

    def __init__(self, trace: Trace, parameters: set[str]) -> None:
        roots = trace.couplings.roots
        self.mac_terms: list[Term] = [
            (event.factor, [roots(axis) for axis in event.axes]) for event in trace.contractions
        ]
        self.param_terms: list[Term] = []
        for name, labels in trace.tensors.items():
            if name in parameters:
                self.param_terms.append((1, [roots(v) for v in labels.dims if v is not None]))
        every = [axes for _, axes in [*self.mac_terms, *self.param_terms]]
        self._size = 1 + max((int(v.max()) for axes in every for v in axes), default=0)

    def macs(self, removed: np.ndarray) -> int:
        """Returns the multiply-accumulates left when the given representative labels are gone."""
        return self._left(self.mac_terms, removed)

    def params(self, removed: np.ndarray) -> int:
        """Returns the parameters left when the given representative labels are gone."""
        return self._left(self.param_terms, removed)

    def _left(self, terms: list[Term], removed: np.ndarray) -> int:
        gone = np.zeros(self._size, bool)
        gone[removed[removed < self._size]] = True  # A buffer's own labels are in no term.
        return sum(
            factor * math.prod(axis.size - int(np.count_nonzero(gone[axis])) for axis in axes)
            for factor, axes in terms
        )

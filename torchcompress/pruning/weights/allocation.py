"""How many weights each layer keeps, for a sparsity of the whole model."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from torchcompress.core.errors import TargetUnreachable
from torchcompress.core.target import Target
from torchcompress.pruning.weights.selection import Selection

Vector = NDArray[np.float64]


def zeros_for(selection: Selection, target: Target, most: int, held: int = 0) -> int:
    """Returns how many of the free weights must be zero.

    Args:
        selection: The weights that a sparsity counts.
        target: The fraction of them that becomes zero.
        most: How many of the free weights may be zero.
        held: How many weights that are not free are zero already.

    Raises:
        TargetUnreachable: That is more than may be.
    """
    needed = max(math.ceil(target.value * selection.count - 1e-6) - held, 0)
    if needed > most:
        stays = {
            w.name: w.parameter.numel() for w in selection.weights if w.name in selection.stays
        }
        largest = sorted(stays, key=lambda name: -stays[name])[:3]
        reasons = "; ".join(f"{name} is {selection.stays[name]}" for name in largest)
        reachable = math.floor(1e4 * (most + held) / selection.count) / 1e4
        raise TargetUnreachable(
            f"{target} asks for {needed + held:,} zeros, and at most {most + held:,} of "
            f"{selection.count:,} weights may be" + (f"; {reasons}" if reasons else ""),
            where="target.sparsity",
            hint=f"ask for sparsity={reachable:g} or less, or keep fewer layers",
        )
    return needed


def erdos_renyi_kernel(shape: Sequence[int]) -> float:
    """Returns the density of a weight up to a factor that all weights of a model share.

    The sum of its dimensions over their product: Mocanu et al. 2018, "Scalable Training of
    Artificial Neural Networks with Adaptive Sparse Connectivity", for convolutions Evci et al.
    2020, "Rigging the Lottery".

    Args:
        shape: Of the weight.
    """
    return sum(shape) / math.prod(shape)


def densities(sizes: Vector, raw: Vector, least: Vector, most: Vector, kept: float) -> Vector:
    """Returns the fraction that each layer keeps: `raw` times one factor, within its bounds.

    Args:
        sizes: Weights of each layer, (layers,).
        raw: Densities up to a factor.
        least: The smallest density of each layer.
        most: The largest.
        kept: Weights that all layers keep together, between what `least` and `most` allow.
    """

    def of(factor: float) -> Vector:
        return np.clip(factor * raw, least, most)

    low, high = 0.0, float(np.max(most / raw))
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if sizes @ of(middle) <= kept else (low, middle)
    return of(high if sizes @ of(high) <= kept else low)

"""Learned rounding, which belongs to the very numbers that it was learned from."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from torch import Tensor


@dataclass(frozen=True)
class LearnedWeight:
    """int8 weights of one layer whose rounding was learned.

    Args:
        weight: int8.
        origin: Hash of the layer as it is without them.
    """

    weight: Tensor
    origin: str

    @classmethod
    def of(cls, layer: str, weight: Tensor, nearest: Mapping[str, Tensor]) -> Self:
        """Returns learned weights that know their layer again.

        Args:
            layer: Its name.
            weight: What was learned.
            nearest: The tensors of the program that holds the layer, rounded to nearest.
        """
        return cls(weight, _origin(layer, nearest))

    def fits(self, layer: str, nearest: Mapping[str, Tensor]) -> bool:
        """Returns whether a layer has the weight, scale and bias that this was learned for."""
        return _origin(layer, nearest) == self.origin


def _origin(layer: str, nearest: Mapping[str, Tensor]) -> str:
    found = hashlib.sha256()
    for name in ("weight", "scale", "bias"):
        found.update(nearest[f"{layer}.{name}"].detach().cpu().numpy().tobytes())
    return found.hexdigest()

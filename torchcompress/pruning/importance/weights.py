"""Importances that look at the weights alone."""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Real
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from torchcompress.core.errors import CompressError, UnsupportedError
from torchcompress.graph.groups import Group
from torchcompress.pruning.importance.base import Evidence, Importance, Scores
from torchcompress.pruning.importance.norms import Norms


@dataclass(frozen=True, kw_only=True)
class Magnitude(Importance):
    """The size of the weights that go with a unit: the Lp norm of each weight's slice.

    Li et al. 2017, "Pruning Filters for Efficient ConvNets"; over all coupled layers, so that
    layers tied by a residual are ranked by what the whole removal costs, as in Fang et al. 2023,
    "DepGraph". Weights of depthwise layers count; biases and norms do not.

    Args:
        p: Order of the norm, above 0; `math.inf` is the largest weight.
        reduce: As in `Importance`.
        normalize: As in `Importance`.

    Raises:
        CompressError: A `p` that is no positive number; a weight that is not finite.
    """

    name: ClassVar[str] = "magnitude"

    p: float = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.p, Real) or not self.p > 0:
            raise CompressError(f"p={self.p!r} is not positive", where="importance magnitude")

    def scores(self, evidence: Evidence) -> Scores:
        """Returns the score of every unit of every group."""
        return self.of(evidence.groups, evidence.tensors)

    def of(self, groups: Iterable[Group], tensors: dict[str, Tensor]) -> Scores:
        """Returns the scores of groups; all alike where no weight of one has two dimensions."""
        matrices = {n for n, t in tensors.items() if t.dim() > 1 and t.is_floating_point()}
        norms, found = Norms(tensors, self.p), {}
        for group in groups:
            parts = [
                norms.of_units(name, dim, indices)
                for (name, dim), indices in group.members.items()
                if name in matrices
            ]
            found[group.name] = self.combine(parts) if parts else np.ones(group.units)
        return found


@dataclass(frozen=True, kw_only=True)
class BatchNormScale(Importance):
    """The |gamma| of the batch norms that a unit passes.

    Liu et al. 2017, "Learning Efficient Convolutional Networks through Network Slimming". A group
    that passes no batch norm is ranked by `magnitude`, and the plan notes it.

    Raises:
        UnsupportedError: No group passes a batch norm; or one does not, and `normalize` is `none`,
            so that its scores would not compare with the others.
    """

    name: ClassVar[str] = "bn"

    def scores(self, evidence: Evidence) -> Scores:
        """Returns the score of every unit of every group."""
        scales = {group.name: _scales(group, evidence) for group in evidence.groups}
        without = [name for name, parts in scales.items() if not parts]
        if without and (len(without) == len(scales) or self.normalize == "none"):
            raise UnsupportedError(
                "no batch norm reads its channels",
                where=without[0],
                hint="use importance='magnitude', or exclude the layer",
            )
        magnitude = Magnitude(reduce=self.reduce, normalize=self.normalize)
        others = [group for group in evidence.groups if group.name in without]
        return {
            **{name: self.combine(parts) for name, parts in scales.items() if parts},
            **magnitude.of(others, evidence.tensors),
        }

    def notes(self, evidence: Evidence) -> dict[str, str]:
        """Returns which groups are ranked by magnitude."""
        without = [group.name for group in evidence.groups if not _scales(group, evidence)]
        return dict.fromkeys(without, "no batch norm: ranked by magnitude")


@dataclass(frozen=True, kw_only=True)
class Lamp(Importance):
    """The squared magnitude of a unit over that of all units of its group at least as large.

    The structured form of Lee et al. 2021, "Layer-adaptive Sparsity for the Magnitude-based
    Pruning". The largest unit of each group scores 1, so that no group is emptied while another
    is whole.
    """

    name: ClassVar[str] = "lamp"

    def scores(self, evidence: Evidence) -> Scores:
        """Returns the score of every unit of every group."""
        magnitude = Magnitude(reduce=self.reduce, normalize=self.normalize)
        return {name: _lamp(size**2) for name, size in magnitude.scores(evidence).items()}


@dataclass(frozen=True, kw_only=True)
class Random(Importance):
    """Random scores: the baseline that an importance has to beat.

    Args:
        seed: Where they come from; with the name of a group it fixes the group's scores.
        reduce: Without effect.
        normalize: Without effect.

    Raises:
        CompressError: A seed that is no whole number from 0 on.
    """

    name: ClassVar[str] = "random"

    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.seed, int) or self.seed < 0:
            raise CompressError(
                f"seed={self.seed!r} is no whole number from 0 on", where="importance random"
            )

    def scores(self, evidence: Evidence) -> Scores:
        """Returns the score of every unit of every group."""
        return {
            group.name: np.random.default_rng([self.seed, zlib.crc32(group.name.encode())]).random(
                group.units
            )
            for group in evidence.groups
        }


def _scales(group: Group, evidence: Evidence) -> list[np.ndarray]:
    """Returns for each batch norm that a group passes the |gamma| of its units."""
    parts = []
    for (name, _), indices in group.members.items():
        path, _, leaf = name.rpartition(".")
        module = evidence.model.get_submodule(path)
        if leaf == "weight" and isinstance(
            module, nn.modules.batchnorm._BatchNorm | FrozenBatchNorm2d
        ):
            gamma = evidence.tensors[name].detach().to(torch.float64).abs().cpu().numpy()
            parts.append(gamma[indices].mean(1))
    return parts


def _lamp(squares: np.ndarray) -> np.ndarray:
    ordered = np.sort(squares)
    at_least = np.cumsum(ordered[::-1])[::-1][np.searchsorted(ordered, squares)]
    return np.divide(squares, at_least, out=np.ones_like(squares), where=at_least > 0)

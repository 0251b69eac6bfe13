"""Norms of the slices of weights."""

import math

import numpy as np
import torch
from torch import Tensor

from torchcompress.core.errors import CompressError

_BLOCK = 1 << 16
"""Elements that stay in the cache from one step to the next."""

_SAFE = (1e-4, 1e30)
"""Between these the largest sum of powers says that no power of single precision is lost."""


class Norms:
    """The Lp norm of each slice of a model's tensors.

    Orders from 0.5 to 4 read each tensor once for all its dimensions.

    Args:
        tensors: Parameters and buffers by name.
        p: Order of the norm, above 0; `math.inf` is the largest value.
    """

    def __init__(self, tensors: dict[str, Tensor], p: float) -> None:
        self._tensors = tensors
        self._p = p
        self._found: dict[tuple[str, int], np.ndarray] = {}

    def along(self, name: str, dim: int) -> np.ndarray:
        """Returns the norm of each index along a dimension.

        Args:
            name: A tensor of at least two dimensions.
            dim: The dimension.

        Raises:
            CompressError: The tensor holds NaN or infinity, or `p` is too small for it.
        """
        if (name, dim) not in self._found:
            self._find(name, dim)
        return self._found[name, dim]

    def of_units(self, name: str, dim: int, indices: np.ndarray) -> np.ndarray:
        """Returns the norm of each unit, which may have several indices along a dimension.

        Args:
            name: A tensor of at least two dimensions.
            dim: The dimension.
            indices: Those of each unit, of shape (units, k).

        Raises:
            CompressError: As in `along`.
        """
        norms = self.along(name, dim)
        return norms[indices[:, 0]] if indices.shape[1] == 1 else _of_rows(norms[indices], self._p)

    def _find(self, name: str, dim: int) -> None:
        weight, p = self._tensors[name].detach(), self._p
        if 0.5 <= p <= 4:
            found = dict(enumerate(_by_sums(weight, p)))
        else:
            found = {dim: _exactly(weight, dim, p)}
        if not np.isfinite(found[dim]).all():
            finite = bool(weight.isfinite().all())
            raise CompressError(
                f"its norms of order {p:g} are too large" if finite else "holds NaN or infinity",
                where=name,
                hint="give a larger p" if finite else "prune a model whose weights are finite",
            )
        self._found.update({(name, d): values for d, values in found.items()})


def _by_sums(weight: Tensor, p: float) -> list[np.ndarray]:
    """Returns the norms along every dimension, of an order whose powers can be summed."""
    scale, sums = 1.0, _power_sums(weight, p, 1.0)
    if not _SAFE[0] < sums[0].max() < _SAFE[1]:
        scale = float(weight.abs().max()) or 1.0
        sums = _power_sums(weight, p, scale)
    return [values ** (1 / p) * scale for values in sums]


def _power_sums(weight: Tensor, p: float, scale: float) -> list[np.ndarray]:
    """Returns the sums of the powers of the values over a scale, along every dimension."""
    dtype, (length, *others) = torch.promote_types(weight.dtype, torch.float32), weight.shape
    rows, columns = [], torch.zeros((), dtype=torch.float64, device=weight.device)
    for block in weight.reshape(length, -1).split(max(1, _BLOCK // math.prod(others))):
        scaled = block.to(dtype) if scale == 1 else block.to(dtype) / scale
        powers = scaled.square() if p == 2 else scaled.abs().pow(p)
        rows.append(powers.sum(1))
        columns = columns + powers.sum(0).double()
    grid = columns.cpu().numpy().reshape(others)
    every = range(len(others))
    return [
        torch.cat(rows).double().cpu().numpy(),
        *(grid.sum(tuple(d for d in every if d != dim)) for dim in every),
    ]


def _exactly(weight: Tensor, dim: int, p: float) -> np.ndarray:
    """Returns norms of any order, in double precision."""
    blocks = weight.movedim(dim, 0).flatten(1).split(64)
    return np.concatenate([_of_rows(block.cpu().double().numpy(), p) for block in blocks])


def _of_rows(rows: np.ndarray, p: float) -> np.ndarray:
    """Returns the Lp norm of each row, whose powers neither underflow nor overflow."""
    sizes = np.abs(rows)
    largest = sizes.max(1)
    if p == math.inf:
        return largest
    sizes /= np.where(largest > 0, largest, 1)[:, None]
    with np.errstate(over="ignore", invalid="ignore"):
        return largest * (sizes**p).sum(1) ** (1 / p)

"""Labels: which channel each index of a tensor's dimensions belongs to."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.int64]
"""One label for each index of a dimension; 0 marks an index that no channel owns."""


@dataclass(frozen=True)
class Labels:
    """The labels of one tensor, a vector for each dimension.

    Attributes:
        dims: For each dimension its vector, of the dimension's length, or None where the
            dimension is not labelled.
        neutral: The tensor is a uniform fill made from a shape, which fits whatever it meets.
    """

    dims: tuple[Vector | None, ...]
    neutral: bool = False

    @classmethod
    def none(cls, rank: int, *, neutral: bool = False) -> Self:
        """Returns the labels of a tensor that carries none."""
        return cls((None,) * rank, neutral)

    @property
    def labelled(self) -> bool:
        """Whether any dimension carries labels."""
        return any(vector is not None for vector in self.dims)

    def vectors(self) -> list[Vector]:
        """Returns the vectors of the labelled dimensions."""
        return [vector for vector in self.dims if vector is not None]

    def at(self, dim: int) -> Vector | None:
        """Returns the vector of a dimension, which may be negative."""
        return self.dims[dim] if self.dims else None

    def with_dim(self, dim: int, vector: Vector | None) -> Self:
        """Returns a copy with one dimension's vector replaced."""
        dims = list(self.dims)
        dims[dim] = vector
        return replace(self, dims=tuple(dims))

    def same(self, other: "Labels") -> bool:
        """Whether both carry the same labels."""
        return len(self.dims) == len(other.dims) and all(
            a is b or (a is not None and b is not None and np.array_equal(a, b))
            for a, b in zip(self.dims, other.dims, strict=True)
        )


def varying(vector: Vector | None) -> Vector | None:
    """Returns the vector, or None where it says nothing: one index, or no channel at all."""
    if vector is None or vector.size <= 1 or not vector.any():
        return None
    return vector


def reshape_groups(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Matches the dimensions of a reshape into the smallest groups of equal size.

    Dimensions of size 1 belong to no group.

    Args:
        old: The shape before.
        new: The shape after, of as many elements, none of them 0.

    Returns:
        Pairs of dimensions before and after.
    """
    before = [d for d, size in enumerate(old) if size != 1]
    after = [d for d, size in enumerate(new) if size != 1]
    groups = []
    while before:
        olds, news = [before.pop(0)], [after.pop(0)]
        left, right = old[olds[0]], new[news[0]]
        while left != right:
            if left < right:
                olds.append(before.pop(0))
                left *= old[olds[-1]]
            else:
                news.append(after.pop(0))
                right *= new[news[-1]]
        groups.append((olds, news))
    return groups


def along(seen: np.ndarray, dim: int) -> Vector | None:
    """Returns the labels along one dimension, or None where another dimension changes them.

    Zeros fit anything.

    Args:
        seen: A label for each element.
        dim: The dimension.
    """
    rows = np.moveaxis(seen, dim, 0).reshape(seen.shape[dim], -1)
    vector = rows.max(1, initial=0)
    return vector if ((rows == vector[:, None]) | (rows == 0)).all() else None

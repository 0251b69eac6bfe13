"""A cost as a function of how many units go of each group."""

from collections.abc import Sequence

import numpy as np

from torchcompress.graph.labels import Vector
from torchcompress.graph.macs import Term


class AxisLengths:
    """How long axes are once some units are gone, each group losing its units in a fixed order.

    Args:
        axes: Representative labels of each axis.
        orders: For each group the labels of its units, in the order in which they go.
    """

    def __init__(self, axes: Sequence[Vector], orders: Sequence[Vector]) -> None:
        highest = max((int(vector.max()) for vector in (*axes, *orders) if vector.size), default=0)
        owner, rank = np.full(highest + 1, -1), np.zeros(highest + 1, np.int64)
        for index, labels in enumerate(orders):
            owner[labels], rank[labels] = index, np.arange(len(labels))
        self._whole = np.array([vector.size for vector in axes], np.int64)
        axis_of: list[int] = []
        group_of: list[int] = []
        start_of: list[int] = []
        tables: list[np.ndarray] = []
        filled = 0
        for axis, vector in enumerate(axes):
            owners = owner[vector]
            for group in np.unique(owners[owners >= 0]).tolist():
                units = rank[vector[owners == group]]
                gone = np.bincount(units + 1, minlength=len(orders[group]) + 1).cumsum()
                axis_of.append(axis)
                group_of.append(group)
                start_of.append(filled)
                tables.append(gone)
                filled += len(gone)
        self._axis, self._group = np.array(axis_of, np.int64), np.array(group_of, np.int64)
        self._start = np.array(start_of, np.int64)
        self._gone = np.concatenate(tables) if tables else np.zeros(0, np.int64)

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        """Returns the length of every axis.

        Args:
            counts: How many units go of each group.
        """
        lengths = self._whole.copy()
        np.subtract.at(lengths, self._axis, self._gone[self._start + counts[self._group]])
        return lengths


class CountedCost:
    """A sum of products of axes, by how many units go of each group.

    Args:
        terms: The products.
        orders: For each group the labels of its units, in the order in which they go.
    """

    def __init__(self, terms: Sequence[Term], orders: Sequence[Vector]) -> None:
        self._lengths = AxisLengths([axis for _, axes in terms for axis in axes], orders)
        self._factors = [factor for factor, _ in terms]
        sizes = [len(axes) for _, axes in terms]
        self._heads = np.cumsum([0, *(size + 1 for size in sizes)])[:-1]
        self._slots = np.array(
            [head + 1 + i for head, n in zip(self._heads, sizes, strict=True) for i in range(n)],
            np.int64,
        )
        self._total = sum(sizes) + len(sizes)

    def __call__(self, counts: np.ndarray) -> int:
        """Returns the cost.

        Args:
            counts: How many units go of each group.
        """
        if not self._factors:
            return 0
        factors = np.empty(self._total, np.int64)
        factors[self._heads] = self._factors
        factors[self._slots] = self._lengths(counts)
        return int(np.multiply.reduceat(factors, self._heads).sum())

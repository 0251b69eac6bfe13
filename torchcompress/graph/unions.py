"""A union-find over labels, many at a time, whose classes carry marks."""

from collections.abc import Sequence

import numpy as np

from torchcompress.graph.labels import Vector


class Unions:
    """Disjoint classes of labels; the smallest label of a class stands for it.

    A mark is a text of some kind that holds for a whole class. Label 0 belongs to no class. What
    is asked for waits until something is asked, so that thousands of small steps are one.

    Args:
        kinds: The kinds of marks.
    """

    def __init__(self, kinds: Sequence[str]) -> None:
        self._count = 1
        self._parent = np.zeros(1024, np.int64)
        self._marks = {kind: np.zeros(1024, np.int32) for kind in kinds}
        self._flat = True
        self._pairs: list[tuple[Vector, Vector]] = []
        self._marked: dict[str, list[tuple[Vector, int]]] = {kind: [] for kind in kinds}
        self._texts: list[str] = [""]
        self._codes: dict[str, int] = {}

    @property
    def size(self) -> int:
        """One more than the largest label."""
        return self._count

    def new(self, count: int) -> Vector:
        """Returns fresh labels, each a class of its own."""
        first, self._count = self._count, self._count + count
        if self._count > len(self._parent):
            more = max(self._count, 2 * len(self._parent)) - len(self._parent)
            self._parent = np.pad(self._parent, (0, more))
            self._marks = {kind: np.pad(codes, (0, more)) for kind, codes in self._marks.items()}
        fresh = np.arange(first, self._count)
        self._parent[first : self._count] = fresh
        return fresh

    def unite(self, a: Vector, b: Vector) -> None:
        """Unites the classes of labels pair by pair; none of them is 0."""
        self._pairs.append((a, b))

    def mark(self, kind: str, vector: Vector, text: str) -> None:
        """Marks the classes of labels; the first mark of a kind is kept."""
        if text not in self._codes:
            self._codes[text] = len(self._texts)
            self._texts.append(text)
        self._marked[kind].append((vector, self._codes[text]))

    def roots(self, vector: Vector) -> Vector:
        """Returns the label that stands for each label."""
        self._settle()
        return self._find(vector)

    def flatten(self) -> None:
        """Makes questions quick until more is united."""
        every = np.arange(self._count)
        self._parent[every] = self.roots(every)
        self._flat = True

    def codes(self, kind: str, vector: Vector) -> np.ndarray:
        """Returns a number for the mark of each label, 0 where there is none."""
        return self._marks[kind][self.roots(vector)]

    def text(self, code: int) -> str | None:
        """Returns the mark that `codes` numbered."""
        return self._texts[code] if code else None

    def _settle(self) -> None:
        """Does what was asked for since the last question, all at once."""
        if self._pairs:
            a, b = (np.concatenate(side) for side in zip(*self._pairs, strict=True))
            self._pairs.clear()
            self._unite(a, b)
        for kind, marked in self._marked.items():
            if marked:
                labels = np.concatenate([vector for vector, _ in marked])
                codes = np.repeat([code for _, code in marked], [v.size for v, _ in marked])
                marked.clear()
                self._write(self._marks[kind], labels[labels != 0], codes[labels != 0])

    def _find(self, vector: Vector) -> Vector:
        parent = self._parent
        above = parent[vector]
        while not self._flat:
            top = parent[above]
            if (top == above).all():
                return above
            parent[vector] = above = top
        return above

    def _unite(self, a: Vector, b: Vector) -> None:
        while a.size:
            left, right = self._find(a), self._find(b)
            differ = left != right
            left, right = left[differ], right[differ]
            root, child = np.minimum(left, right), np.maximum(left, right)
            self._parent[child] = root
            self._flat = False
            for codes in self._marks.values():
                self._write(codes, root, codes[child])
            # A child of several pairs has the root of the last one; the others still wait.
            waits = self._parent[child] != root
            a, b = root[waits], child[waits]

    def _write(self, codes: np.ndarray, labels: Vector, values: np.ndarray) -> None:
        if not values.any():
            return
        roots = self._find(labels)
        open_ = (codes[roots] == 0) & (values != 0)
        # Where labels repeat, numpy keeps the last value: reversed, that is the first.
        codes[roots[open_][::-1]] = values[open_][::-1]

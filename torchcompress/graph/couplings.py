"""Which labels stand or fall together, and which must stay."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from torchcompress.graph.labels import Vector, varying
from torchcompress.graph.unions import Unions


@dataclass
class Grid:
    """A dimension whose indices are the cells of a grid, because a reshape splits or joins it.

    What is removed must leave a grid: whole slices along one axis. Each axis has labels of its
    own; `Couplings.resolve` picks the axis along which slices go and freezes the others.

    Attributes:
        cells: Labels of the cells, one axis for each part of the reshape.
        axes: Labels of the slices of each axis.
        counted: The code is taken to repeat the length of every axis but the last, as in
            `x.view(n, groups, channels // groups)`.
    """

    cells: np.ndarray
    axes: tuple[Vector, ...]
    counted: bool = False


class Couplings:
    """A union-find over labels that also knows why some of them are frozen.

    Attributes:
        operation: Name of the operation whose rule is being applied.
        coupled: For each operation the labels that it tied to others.
    """

    def __init__(self) -> None:
        self.operation = ""
        self.coupled: dict[str, list[Vector]] = defaultdict(list)
        self._unions = Unions(("frozen", "inexact"))
        self._ignored: set[int] = set()
        self._grids: list[Grid] = []
        self._known: dict[tuple[object, ...], Grid] = {}
        self._balances: list[Sequence[Vector]] = []
        self._cuts: dict[bytes, dict[int, Vector]] = {}
        self._preferred: list[Vector] = []

    def new(self, count: int) -> Vector:
        """Returns fresh labels."""
        return self._unions.new(count)

    def among(self, representatives: Vector) -> Callable[[Vector], np.ndarray]:
        """Returns a function that says of each label whether one of these stands for it."""
        hit = np.zeros(self._unions.size, bool)
        hit[representatives] = True
        return lambda vector: hit[self.roots(vector)]

    def find(self, label: int) -> int:
        """Returns the label that stands for all that are coupled to this one."""
        return int(self.roots(np.array([label]))[0])

    def roots(self, vector: Vector) -> Vector:
        """Returns the representative of each label."""
        return self._unions.roots(vector)

    def reason(self, label: int) -> str | None:
        """Returns why a label is frozen, or None where it may be removed."""
        return self.reasons(np.array([label]))[0]

    def reasons(self, vector: Vector) -> list[str | None]:
        """Returns for each label why it is frozen, or None where it may be removed."""
        return [self._unions.text(code) for code in self.reason_codes(vector).tolist()]

    def reason_codes(self, vector: Vector) -> np.ndarray:
        """Returns for each label a number for the reason why it is frozen, 0 where it is not."""
        return self._unions.codes("frozen", vector)

    def frozen(self, vector: Vector) -> np.ndarray:
        """Returns for each label whether it is frozen."""
        return self.reason_codes(vector) != 0

    def inexact(self, label: int) -> str | None:
        """Returns why removing a label differs from zeroing it, or None where it does not."""
        return self.first_inexact(np.array([label]))

    def first_inexact(self, vector: Vector) -> str | None:
        """Returns why removing some labels differs from zeroing them, or None."""
        codes = self._unions.codes("inexact", vector)
        return self._unions.text(int(codes[np.argmax(codes != 0)]))

    def ignored(self, label: int) -> bool:
        """Whether a label belongs to a dimension that is not made of channels."""
        return label in self._ignored

    def ignore(self, vector: Vector | None, reason: str) -> None:
        """Freezes a dimension that is not made of channels, such as a kernel's rows."""
        if vector is not None:
            self.freeze(vector, reason)
            self._ignored.update(vector.tolist())

    def freeze(self, vector: Vector | None, reason: str) -> None:
        """Marks labels that must stay; the first reason is kept."""
        if vector is not None:
            self._unions.mark("frozen", vector, reason)

    def mark_inexact(self, vector: Vector | None, reason: str) -> None:
        """Marks labels whose removal differs from zeroing them; the first reason is kept."""
        if vector is not None:
            self._unions.mark("inexact", vector, reason)

    def couple(self, a: Vector | None, b: Vector | None, reason: str) -> None:
        """Ties two dimensions index by index.

        Where only one of them has a label, that label is frozen: it meets something of fixed size.

        Args:
            a: Labels of one dimension.
            b: Labels of the other, of the same length.
            reason: Why a label that meets no other one is frozen.

        Raises:
            ValueError: The lengths differ.
        """
        if a is b:
            return
        if a is None or b is None:
            self.freeze(a if b is None else b, reason)
            return
        if a.size != b.size:
            raise ValueError(f"{a.size} indices meet {b.size}")
        self.coupled[self.operation] += (a, b)
        if np.count_nonzero(a) < a.size or np.count_nonzero(b) < b.size:
            both = (a != 0) & (b != 0)
            self.freeze((a + b)[~both], reason)
            a, b = a[both], b[both]
        self._unions.unite(a, b)

    def split(
        self, vector: Vector | None, shape: Sequence[int], *, counted: bool = False
    ) -> list[Vector | None]:
        """Returns the labels of the parts of a dimension that a reshape splits.

        Args:
            vector: Labels of the dimension.
            shape: Sizes of its parts.
            counted: Slices along the last axis are preferred; see `Grid`.
        """
        if vector is None:
            return [None] * len(shape)
        cells = vector.reshape(shape)
        moves = [
            size > 1 and bool((cells != np.take(cells, [0], axis)).any())
            for axis, size in enumerate(shape)
        ]
        parts: list[Vector | None] = [None] * len(shape)
        axes = [axis for axis, move in enumerate(moves) if move]
        if not axes:
            longest = int(np.argmax(shape))
            parts[longest] = np.full(shape[longest], vector[0])
            return parts
        core = cells[tuple(slice(None) if move else 0 for move in moves)]
        if len(axes) == 1:
            parts[axes[0]] = core
            return parts
        periods = [_period(core, axis) for axis in range(core.ndim)]
        grid = self._grid(core[tuple(map(slice, periods))], counted)
        for axis, size, labels in zip(axes, core.shape, grid.axes, strict=True):
            parts[axis] = labels if labels.size == size else np.tile(labels, size // labels.size)
        return parts

    def join(self, vectors: Sequence[Vector | None], shape: Sequence[int]) -> Vector | None:
        """Returns the labels of the dimension that a reshape makes of several.

        Args:
            vectors: Labels of the dimensions.
            shape: Their sizes.
        """
        axes = [axis for axis, vector in enumerate(vectors) if varying(vector) is not None]
        if not axes:
            return None
        sizes = [shape[axis] if axis in axes else 1 for axis in range(len(shape))]
        parts = [vector for axis in axes if (vector := vectors[axis]) is not None]
        cells = parts[0] if len(parts) == 1 else self._joined(parts).cells
        return np.broadcast_to(cells.reshape(sizes), shape).reshape(-1)

    def _grid(self, cells: np.ndarray, counted: bool) -> Grid:
        key = (cells.shape, cells.tobytes())
        if key not in self._known:
            axes = tuple(self.new(size) for size in cells.shape)
            self._remember(Grid(cells, axes), key)
        self._known[key].counted |= counted
        return self._known[key]

    def _joined(self, axes: Sequence[Vector]) -> Grid:
        key = ("join", *(vector.tobytes() for vector in axes))
        if key not in self._known:
            shape = tuple(vector.size for vector in axes)
            cells = self.new(int(np.prod(shape))).reshape(shape)
            grid = Grid(cells, tuple(axes))
            self._remember(grid, key)
            self._known[shape, cells.tobytes()] = grid
        return self._known[key]

    def _remember(self, grid: Grid, key: tuple[object, ...]) -> None:
        self._known[key] = grid
        self._grids.append(grid)

    def cut(self, vector: Vector, taken: slice) -> None:
        """Notes a slice of a dimension; slices that tile it in equal parts are balanced."""
        start, stop, step = taken.indices(vector.size)
        if step == 1 and 0 < stop - start < vector.size:
            self._cuts.setdefault(vector.tobytes(), {})[start] = vector[start:stop]

    def _tilings(self) -> Iterator[list[Vector]]:
        for whole, slices in self._cuts.items():
            tiles = [slices[start] for start in sorted(slices)]
            equal = len({tile.size for tile in tiles}) == 1
            if equal and b"".join(tile.tobytes() for tile in tiles) == whole:
                yield tiles

    def balance(self, parts: Sequence[Vector]) -> None:
        """Asks that equally long parts of a dimension lose equally many indices."""
        self._balances.append(parts)

    def prefer(self, vector: Vector | None) -> None:
        """Asks that slices along this axis of a grid go, rather than along the others."""
        if vector is not None:
            self._preferred.append(vector)

    def resolve(self) -> None:
        """Settles what is still open once the run is over: grids, then balances."""
        self.operation = "reshape"
        self._resolve_grids()
        self.operation = "split"
        for parts in (*self._balances, *self._tilings()):
            self._resolve_balance(parts)
        self._unions.flatten()

    def _resolve_grids(self) -> None:
        """Decides for every grid along which axis slices are removed.

        A preferred axis comes first, then the last one where the code counts the others, then one
        that an earlier grid has chosen, then the one with most removable slices, so that a grouped
        convolution loses whole groups or the same offsets of each. Where the code counts, there is
        least to choose, so those grids come first.
        """
        chosen = np.zeros(0, np.int64)
        preferred = np.concatenate([np.zeros(0, np.int64), *self._preferred])
        preferred = preferred[preferred > 0]
        for grid in sorted(self._grids, key=lambda grid: not grid.counted):
            alive = [self._alive(grid, axis) for axis in range(grid.cells.ndim)]
            last = grid.cells.ndim - 1
            ranks = [
                (
                    labels.size > 1 and self._meet(labels, preferred),
                    grid.counted and axis == last and labels.size > 1,
                    self._meet(labels, chosen),
                    labels.size,
                )
                for axis, labels in enumerate(alive)
            ]
            best = ranks.index(max(ranks))
            for axis, labels in enumerate(grid.axes):
                if axis == best:
                    slices = np.moveaxis(grid.cells, axis, 0).reshape(labels.size, -1)
                    chain = np.column_stack([labels, slices])
                    before, after = chain[:, :-1].ravel(), chain[:, 1:].ravel()
                    self.couple(before, after, "shares a reshape with an index of fixed size")
                else:
                    self.freeze(labels, "a reshape keeps this axis; slices go along the other")
            chosen = np.concatenate([chosen, grid.axes[best]])

    def _meet(self, a: Vector, b: Vector) -> bool:
        """Whether a label of the one is coupled to a label of the other."""
        return bool(self.among(self.roots(a))(b).any())

    def _alive(self, grid: Grid, axis: int) -> Vector:
        """Returns the representatives of the slices of an axis that could go."""
        labels = grid.axes[axis]
        slices = np.moveaxis(grid.cells, axis, 0).reshape(labels.size, -1)
        may_go = ~self.frozen(labels) & ((slices != 0) & ~self.frozen(slices)).all(1)
        return np.unique(self.roots(labels[may_go]))

    def _resolve_balance(self, parts: Sequence[Vector]) -> None:
        """Couples labels so that each that is left takes equally many indices of every part."""
        counts: dict[int, np.ndarray] = {}
        for position, part in enumerate(parts):
            roots = self.roots(part)
            for root in roots[(roots != 0) & ~self.frozen(roots)].tolist():
                counts.setdefault(root, np.zeros(len(parts), np.int64))[position] += 1
        open_ = {root: count for root, count in counts.items() if count.min() != count.max()}
        leftover: list[int] = []
        while open_:
            root = max(open_, key=lambda r: (int(open_[r].max()), -r))
            together, total = [root], open_.pop(root)
            while total.min() != total.max():
                need = total.max() - total
                fits = [r for r, c in open_.items() if (c <= need).all()]
                if not fits:
                    break
                best = max(fits, key=lambda r: (int(open_[r].sum()), -r))
                together.append(best)
                total = total + open_.pop(best)
            if total.min() != total.max():
                leftover += together
            if len(together) > 1:
                self.coupled[self.operation] += parts
                self._unions.unite(np.full(len(together) - 1, root), np.array(together[1:]))
        self.freeze(np.array(leftover, np.int64), "has no partner in an equal part of a split")


def _period(cells: np.ndarray, axis: int) -> int:
    """Returns after how many slices along an axis they repeat."""
    slices = np.moveaxis(cells, axis, 0)
    size = len(slices)
    again = (n for n in range(2, size) if size % n == 0 and np.array_equal(slices[0], slices[n]))
    return next((n for n in again if np.array_equal(slices[n:], slices[:-n])), size)

"""Second moments of what a layer reads and should give, streamed over calibration batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from torchcompress.core.progress import progress
from torchcompress.reconstruction.capture import Calibration, watch
from torchcompress.reconstruction.layers import Layer, Seen

WIDEST_DOUBLE = 8192
"""Columns up to which sums are kept in float64; wider ones take float32, half the memory."""


@dataclass
class Moments:
    """Sums over rows of inputs x and wanted outputs y, by group.

    Memory is that of `groups * columns * (columns + outputs)` numbers, whatever the number of
    rows: float64 up to `WIDEST_DOUBLE` columns, float32 above (VGG-16's first linear layer: 2.5 GB
    and 0.4 GB).

    Attributes:
        count: Rows.
        x: Sum of x, (groups, columns).
        y: Sum of y, (groups, outputs).
        xx: Sum of x x^T, (groups, columns, columns).
        xy: Sum of x y^T, (groups, columns, outputs).
        yy: Sum of the squares of y, (groups, outputs).
    """

    count: int
    x: Tensor
    y: Tensor
    xx: Tensor
    xy: Tensor
    yy: Tensor

    @classmethod
    def zeros(cls, groups: int, columns: int, outputs: int, device: torch.device) -> Self:
        """Returns the sums over no rows.

        Args:
            groups: Groups of the layer.
            columns: Length of x.
            outputs: Length of y.
            device: Where the sums are kept.
        """
        dtype = torch.float64 if columns <= WIDEST_DOUBLE else torch.float32

        def make(*shape: int) -> Tensor:
            return torch.zeros(groups, *shape, dtype=dtype, device=device)

        return cls(
            0, make(columns), make(outputs), make(columns, columns), make(columns, outputs),
            make(outputs),
        )  # fmt: skip

    def add(self, x: Tensor, y: Tensor) -> None:
        """Takes rows in.

        A product is formed in the dtype of the rows, and added up in the dtype of the sums.

        Args:
            x: (groups, n, columns).
            y: (groups, n, outputs).
        """
        self.count += x.shape[1]
        self.x += x.sum(1, dtype=self.x.dtype)
        self.y += y.sum(1, dtype=self.y.dtype)
        self.xx += x.mT @ x
        self.xy += x.mT @ y
        self.yy += y.square().sum(1, dtype=self.yy.dtype)

    def centered(self) -> Self:
        """Returns the sums about the means: those that a layer with a free constant has to fit."""
        x, y = self.x / self.count, self.y / self.count
        return type(self)(
            self.count,
            torch.zeros_like(x),
            torch.zeros_like(y),
            torch.baddbmm(self.xx, x[:, :, None], x[:, None, :], alpha=-self.count),
            torch.baddbmm(self.xy, x[:, :, None], y[:, None, :], alpha=-self.count),
            (self.yy - self.count * y.square()).clamp(min=0),
        )

    def constant(self, weight: Tensor) -> Tensor:
        """Returns the constant of least error beside a weight, (groups, outputs).

        Args:
            weight: (groups, outputs, columns).
        """
        w = weight.to(self.xx.dtype)
        return (self.y - (w @ self.x[:, :, None])[:, :, 0]) / self.count

    def error(self, weight: Tensor, constant: Tensor | None = None) -> Tensor:
        """Returns the summed squared error of `weight @ x + constant` from y, (groups, outputs).

        Args:
            weight: (groups, outputs, columns).
            constant: (groups, outputs); none is zero.
        """
        w = weight.to(self.xx.dtype)
        error = self.yy - 2 * (w * self.xy.mT).sum(2) + ((w @ self.xx) * w).sum(2)
        if constant is not None:
            b = constant.to(self.xx.dtype)
            mean = self.y - (w @ self.x[:, :, None])[:, :, 0]
            error = error - 2 * b * mean + self.count * b.square()
        return error.clamp(min=0)


def collect(
    model: nn.Module,
    layers: Sequence[Layer],
    calibration: Calibration,
    reference: tuple[nn.Module, Sequence[Layer]] | None = None,
) -> dict[str, Moments]:
    """Returns the moments of some layers over all batches, by layer name.

    One run of the model a batch, to the last of the layers; the sums of all of them are held at
    once.

    Args:
        model: The model that the layers are of.
        layers: The layers.
        calibration: The batches.
        reference: The same layers of another model of the same architecture, whose outputs are
            wanted; by default the wanted outputs are the layers' own.

    Raises:
        CalibrationError: As in `watch`.
    """
    moments: dict[str, Moments] = {}

    def add(layer: Layer, seen: Seen) -> None:
        for x, y in layer.rows(seen):
            if layer.name not in moments:
                moments[layer.name] = Moments.zeros(len(x), x.shape[2], y.shape[2], x.device)
            moments[layer.name].add(x, y)

    for index in progress(range(len(calibration)), "statistics", unit="batch"):
        if reference is None:
            watch(model, layers, calibration, index, add)
            continue
        wanted: dict[str, list[Tensor]] = {layer.name: [] for layer in layers}
        other, twins = reference

        def remember(layer: Layer, seen: Seen, wanted: dict[str, list[Tensor]] = wanted) -> None:
            wanted[layer.name].append(seen.y.clone())

        def compare(layer: Layer, seen: Seen, wanted: dict[str, list[Tensor]] = wanted) -> None:
            add(layer, Seen(seen.x, wanted[layer.name].pop(0)))

        watch(other, twins, calibration, index, remember)
        watch(model, layers, calibration, index, compare)
    return moments

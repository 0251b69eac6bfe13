"""Observers: from the values that calibration saw to a uint8 grid."""

import torch
from torch import Tensor

from torchcompress.quantization.program import QParams

BINS = 2048
_CANDIDATES = 48
_NARROWEST = 0.25


def grid_for(low: float, high: float) -> QParams:
    """Returns the uint8 grid over a range, widened to hold 0.

    Args:
        low: Smallest value.
        high: Largest value.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / 255
    if scale < torch.finfo(torch.float32).tiny:
        return QParams(1.0, 0)
    return QParams(scale, min(max(round(-low / scale), 0), 255))


def symmetric(grid: QParams) -> QParams:
    """Returns the finest grid of zero point 128 that covers another one; of such a one, itself.

    With 128 taken off its integers it is an int8 grid of zero point 0.
    """
    below, above = grid.zero_point / 128, (255 - grid.zero_point) / 127
    return QParams(grid.scale * max(below, above), 128)


class RangeObserver:
    """The smallest and largest value seen, then, in a second pass, a histogram between them."""

    def __init__(self) -> None:
        self.low, self.high = float("inf"), float("-inf")
        self.counts: Tensor | None = None

    def update(self, x: Tensor) -> None:
        """Widens the range to hold a float32 tensor."""
        low, high = torch.aminmax(x)
        self.low, self.high = min(self.low, low.item()), max(self.high, high.item())

    def count(self, x: Tensor) -> None:
        """Adds a float32 tensor to the histogram over the range seen so far."""
        if self.low == self.high:
            return
        values = x.detach().reshape(-1).float().cpu().clamp(self.low, self.high)
        counts = torch.histc(values, BINS, self.low, self.high).double()
        self.counts = counts if self.counts is None else self.counts + counts

    @property
    def seen(self) -> bool:
        """Whether any value was observed."""
        return self.low <= self.high

    def grid(self) -> QParams:
        """Returns the grid: over all that was seen, or the best clipping of the histogram."""
        if self.counts is None:
            return grid_for(self.low, self.high)
        return clipped_grid(self.low, self.high, self.counts)


def clipped_grid(low: float, high: float, counts: Tensor) -> QParams:
    """Returns the grid of least squared error over a histogram.

    The upper end is searched first, then the lower one.

    Args:
        low: Lower end of the first bin.
        high: Upper end of the last bin.
        counts: How many values fell into each bin, float64.
    """
    width = (high - low) / len(counts)
    centers = low + (torch.arange(len(counts), dtype=torch.float64) + 0.5) * width
    best = grid_for(low, high)
    least = _squared_error(best, centers, counts)
    factors = torch.linspace(1.0, _NARROWEST, _CANDIDATES, dtype=torch.float64).tolist()
    top = 1.0
    for factor in factors if high > 0 else ():
        grid = grid_for(low, high * factor)
        error = _squared_error(grid, centers, counts)
        if error < least:
            best, least, top = grid, error, factor
    for factor in factors if low < 0 else ():
        grid = grid_for(low * factor, high * top)
        error = _squared_error(grid, centers, counts)
        if error < least:
            best, least = grid, error
    return best


def _squared_error(grid: QParams, centers: Tensor, counts: Tensor) -> float:
    q = (centers / grid.scale + grid.zero_point).round_().clamp_(0, 255)
    gap = (q - grid.zero_point) * grid.scale - centers
    return float((gap * gap * counts).sum())

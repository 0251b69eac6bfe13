"""Layer-wise solvers on calibration data; they need no labels and no training."""

from torchcompress.reconstruction.consumers import resolve_consumers
from torchcompress.reconstruction.least_squares import ridge_solution

__all__ = ["resolve_consumers", "ridge_solution"]

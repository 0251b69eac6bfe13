"""Ridge least squares with an intercept, from streamed statistics."""

import torch
from torch import Tensor


class LeastSquares:
    """Fits outputs as an affine function of inputs, one batch at a time.

    Memory is that of a matrix of `inputs` squared and one of `inputs` times `outputs`, in float64,
    whatever the number of samples.

    Args:
        inputs: Length of an input.
        outputs: Length of an output.
        device: Where the statistics are kept.
    """

    def __init__(self, inputs: int, outputs: int, device: torch.device) -> None:
        options = {"dtype": torch.float64, "device": device}
        self._count = 0
        self._x = torch.zeros(inputs, **options)
        self._y = torch.zeros(outputs, **options)
        self._xx = torch.zeros(inputs, inputs, **options)
        self._xy = torch.zeros(inputs, outputs, **options)

    def add(self, x: Tensor, y: Tensor) -> None:
        """Takes a batch in.

        Args:
            x: (n, inputs), float32.
            y: (n, outputs), float32.
        """
        self._count += len(x)
        self._x += x.sum(0, dtype=torch.float64)
        self._y += y.sum(0, dtype=torch.float64)
        x, y = x.double(), y.double()
        self._xx += x.T @ x
        self._xy += x.T @ y

    def solve(self, weight: Tensor, ridge: float, *, intercept: bool) -> tuple[Tensor, Tensor]:
        """Returns the weight and intercept of least error, drawn towards a given weight.

        Minimises the squared error plus `ridge` times the mean input energy times the squared
        distance to `weight`; an input that never varies keeps its weight.

        Args:
            weight: (outputs, inputs).
            ridge: Above 0, relative to the mean of the inputs' energies.
            intercept: Whether a constant is fitted too; else it is zero.

        Returns:
            (outputs, inputs) and (outputs,), float64.
        """
        prior = weight.to(torch.float64).T
        xx, xy = self._xx, self._xy
        x, y = self._x / self._count, self._y / self._count
        if intercept:
            xx = xx - self._count * torch.outer(x, x)
            xy = xy - self._count * torch.outer(x, y)
        energy = xx.diagonal().mean()
        damping = ridge * torch.where(energy > 0, energy, 1.0)
        factor = torch.linalg.cholesky(xx + damping * torch.eye(len(xx)).to(xx))
        change = torch.cholesky_solve(xy - xx @ prior, factor)
        solved = (prior + change).T
        constant = y - solved @ x if intercept else torch.zeros_like(y)
        return solved, constant

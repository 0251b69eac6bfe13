"""Rounding weights to a grid so that the layer's outputs move as little as possible."""

import torch
from torch import Tensor

from torchcompress.core.errors import CompressError
from torchcompress.reconstruction.gram import DAMPING, inverse, output_error

LARGEST = 127
"""Largest magnitude on the int8 grid, which is symmetric."""


def round_weights(
    weight: Tensor, gram: Tensor, scale: Tensor, *, damping: float = DAMPING, block: int = 128
) -> Tensor:
    """Rounds weights to int8 with error feedback; rows that this does not help are rounded plainly.

    Column by column, those with the largest inputs first, a weight goes to the nearest point of
    its row's grid and the columns that are still free make up for the error, as in Frantar et al.
    2023, "GPTQ". Rows are independent, so of each row the better of this and plain rounding is
    kept: no row's squared output error on `gram` is above that of plain rounding. A weight that is
    zero stays zero.

    Args:
        weight: (groups, outputs, columns), as `Layer.weight` gives it.
        gram: (groups, columns, columns), as in `Moments.xx`: float64, or float32 where wide.
        scale: Step of the grid of each row, above 0, (groups, outputs).
        damping: Relative to the mean of the Gram matrix's diagonal.
        block: Columns that are updated at once; the result does not depend on it.

    Returns:
        The integers of the grid in [-127, 127], int8, (groups, outputs, columns); the layer's
        weight is `scale` times these.

    Raises:
        CompressError: Shapes that do not fit, or a scale that is not above 0.
        CalibrationError: The Gram matrix is not finite.
    """
    groups, outputs, columns = weight.shape
    for name, tensor, shape in (
        ("gram", gram, (groups, columns, columns)),
        ("scale", scale, (groups, outputs)),
    ):
        if tuple(tensor.shape) != shape:
            raise CompressError(
                f"has the shape {tuple(tensor.shape)}, and {shape} is needed", where=name
            )
    if not (scale > 0).all():
        raise CompressError("is not above 0 everywhere", where="scale")
    dense = weight.to(gram.dtype)
    step = scale.to(gram.dtype)[:, :, None]
    plain = _nearest(dense, step)
    fed = _with_feedback(dense, gram, step, damping, block)
    error = output_error(fed * step, dense, gram)
    better = error < output_error(plain * step, dense, gram)
    return torch.where(better[:, :, None], fed, plain).to(torch.int8)


def _nearest(weight: Tensor, step: Tensor) -> Tensor:
    return (weight / step).round().clamp(-LARGEST, LARGEST)


def _with_feedback(dense: Tensor, gram: Tensor, step: Tensor, damping: float, block: int) -> Tensor:
    order = gram.diagonal(dim1=1, dim2=2).argsort(dim=1, descending=True, stable=True)
    rows, columns = order[:, None, :], order[:, :, None]
    ordered = torch.take_along_dim(torch.take_along_dim(gram, columns, 1), rows, 2)
    upper = torch.linalg.cholesky(inverse(ordered, damping), upper=True)
    w = torch.take_along_dim(dense, rows, 2)
    zero = w == 0
    result = torch.zeros_like(w)
    for start in range(0, w.shape[2], block):
        end = min(start + block, w.shape[2])
        errors = torch.zeros_like(w[:, :, start:end])
        for column in range(start, end):
            value = w[:, :, column : column + 1]
            nearest = _nearest(value, step).masked_fill(zero[:, :, column : column + 1], 0)
            result[:, :, column : column + 1] = nearest
            error = (value - nearest * step) / upper[:, column, column, None, None]
            w[:, :, column:end] -= error * upper[:, column, None, column:end]
            errors[:, :, column - start] = error[:, :, 0]
        w[:, :, end:] -= errors @ upper[:, start:end, end:]
    return torch.zeros_like(result).scatter_(2, rows.expand_as(result), result)

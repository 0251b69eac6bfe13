"""The Gram matrix of a layer's inputs, made fit for solving."""

import torch
from torch import Tensor

from torchcompress.core.errors import CalibrationError

DAMPING = 1e-2
"""What is added to the diagonal, relative to its mean (Frantar and Alistarh 2023)."""

_ATTEMPTS = 6


def pull(gram: Tensor, damping: float = DAMPING) -> Tensor:
    """Returns what `damped` adds to the diagonal of each group, (groups,).

    Args:
        gram: (groups, columns, columns).
        damping: Above 0, relative to the mean of the diagonal.
    """
    mean = gram.diagonal(dim1=1, dim2=2).mean(1)
    return torch.where(mean > 0, damping * mean, 1.0)


def damped(gram: Tensor, damping: float = DAMPING) -> Tensor:
    """Returns a Gram matrix with a fraction of its mean diagonal added to its diagonal.

    An input that is always zero so gets a diagonal above zero: its weight costs nothing, and moves
    no other. Where all are zero the identity is added.

    Args:
        gram: (groups, columns, columns), symmetric.
        damping: Above 0, relative to the mean of the diagonal of each group.

    Raises:
        CalibrationError: The matrix is not finite.
    """
    if not gram.diagonal(dim1=1, dim2=2).isfinite().all():
        raise CalibrationError("the sums of the inputs' products are not finite", where="gram")
    fixed = gram.clone()
    fixed.diagonal(dim1=1, dim2=2).add_(pull(gram, damping)[:, None])
    return fixed


def positive_factor(system: Tensor, step: Tensor) -> Tensor:
    """Returns Cholesky factors of matrices that only rounding can have made indefinite.

    Where a factor does not exist, the diagonal grows, by ten times as much each time. A matrix
    that is rounding errors alone, as where inputs hardly vary about their means, gets what makes
    any matrix positive (Gershgorin 1931).

    Args:
        system: (batch, n, n), symmetric.
        step: What is added first, (batch,).

    Raises:
        CalibrationError: A matrix is not finite.
    """
    factor, failed = torch.linalg.cholesky_ex(system)
    if not failed.any():
        return factor
    if not system.isfinite().all():
        raise CalibrationError("the sums of the inputs' products are not finite", where="gram")
    system = system.clone()
    for _ in range(_ATTEMPTS):
        system.diagonal(dim1=1, dim2=2).add_((step * (failed > 0))[:, None])
        factor, failed = torch.linalg.cholesky_ex(system)
        if not failed.any():
            return factor
        step = 10 * step
    bound = 2 * system.abs().sum(2).amax(1)
    bound = torch.where(bound > 0, bound, 1.0) * (failed > 0)
    system.diagonal(dim1=1, dim2=2).add_(bound[:, None])
    return torch.linalg.cholesky(system)


def inverse(gram: Tensor, damping: float = DAMPING) -> Tensor:
    """Returns the inverse of a damped Gram matrix, by its Cholesky factor.

    Damping grows tenfold until the factor exists, see `positive_factor`.

    Args:
        gram: (groups, columns, columns), float64; float32 where memory is short.
        damping: Relative to the mean of the diagonal.

    Raises:
        CalibrationError: The matrix is not finite.
    """
    return torch.cholesky_inverse(positive_factor(damped(gram, damping), 9 * pull(gram, damping)))


def output_error(weight: Tensor, dense: Tensor, gram: Tensor) -> Tensor:
    """Returns the squared error of outputs, (groups, outputs), summed over the rows of the inputs.

    Args:
        weight: (groups, outputs, columns).
        dense: What it stands for.
        gram: (groups, columns, columns).
    """
    change = (weight - dense).to(gram.dtype)
    return ((change @ gram) * change).sum(2).clamp(min=0)

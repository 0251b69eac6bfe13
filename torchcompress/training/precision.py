"""Arithmetic that must not happen in half precision."""

import torch
from torch import Tensor


def at_least_float32(values: Tensor) -> Tensor:
    """Returns floating-point values in float32, or as they are where they have more."""
    return values.to(torch.promote_types(values.dtype, torch.float32))

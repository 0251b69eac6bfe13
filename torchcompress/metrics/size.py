"""How large a model is: parameters and bytes."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn


def count_params(model: nn.Module) -> int:
    """Returns how many weights and biases a model has; tied ones count once.

    An int8 model keeps its weights in buffers and says itself how many there are
    (`parameter_count`).

    Args:
        model: Any model.
    """
    own = getattr(model, "parameter_count", None)
    return own if isinstance(own, int) else sum(p.numel() for p in model.parameters())


def count_zeros(model: nn.Module) -> int:
    """Returns how many of a model's weights and biases are exactly zero.

    An int8 model says itself how many there are (`zero_count`).

    Args:
        model: Any model.
    """
    own = getattr(model, "zero_count", None)
    return own if isinstance(own, int) else sum(int((p == 0).sum()) for p in model.parameters())


def state_dict_bytes(model: nn.Module) -> int:
    """Returns the bytes of the tensors in a model's state_dict, each in its own dtype.

    Tied tensors count once and a container's header is left out, so no file that holds the
    state_dict is smaller.

    Args:
        model: Any model.
    """
    sizes: dict[tuple[int, int], int] = {}
    for tensor in model.state_dict().values():
        sizes[tensor.data_ptr(), tensor.numel()] = tensor.numel() * tensor.element_size()
    return sum(sizes.values())


def file_bytes(path: str | Path) -> int:
    """Returns the size of a file in bytes.

    Args:
        path: The file.
    """
    return Path(path).stat().st_size


MANTISSA_BITS = {"float64": 52, "float32": 23, "float16": 10, "bfloat16": 7}
"""Bits of a number that look random in trained weights, by dtype."""


def entropy_bytes(tensor: Tensor) -> float:
    """Returns the bytes that a code of independent symbols needs for a tensor, at least.

    Where the zeros lie, which is the entropy of a coin for each element, and which of them are
    negative; then the entropy of the other elements, of their sign and exponent where they are
    floating-point, whose mantissas count in full.

    Args:
        tensor: Any tensor of real numbers.
    """
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    bits = np.frombuffer(flat.view(torch.uint8).numpy(), f"<u{flat.itemsize}")
    raw = MANTISSA_BITS.get(str(tensor.dtype).removeprefix("torch."), 0)
    zero = (flat == 0).numpy()
    values, negative = bits[~zero], int((bits[zero] != 0).sum())
    where = _entropy_bits(np.array([len(values), negative, len(bits) - len(values) - negative]))
    what = _entropy_bits(np.unique(values >> raw, return_counts=True)[1])
    return (where + what + raw * len(values)) / 8


def _entropy_bits(counts: np.ndarray) -> float:
    """Returns the bits of as many symbols of each kind."""
    counts = counts[counts > 0]
    return float((counts * np.log2(counts.sum() / counts)).sum())

"""Where a layer's constant goes: its bias, or the mean of the batch norm that reads it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from torchcompress.reconstruction.layers import Layer


def takes_constant(layer: Layer) -> bool:
    """Whether something holds a constant that may change."""
    return layer.bias is not None or layer.norm is not None


def put_constant(layer: Layer, constant: Tensor) -> None:
    """Sets what a layer adds to its products.

    Args:
        layer: The layer, changed in place.
        constant: (groups, outputs); without a bias, on top of what the batch norm takes away.
    """
    with torch.no_grad():
        if layer.bias is not None:
            layer.bias.copy_(constant)
        elif layer.norm is not None and layer.norm.running_mean is not None:
            layer.norm.running_mean.sub_(constant.flatten().to(layer.norm.running_mean.dtype))


@contextmanager
def restored(layers: Sequence[Layer]) -> Iterator[None]:
    """Gives layers back their weights and constants after a block."""
    kept = [(layer, layer.weight, [(t, t.clone()) for t in _constants(layer)]) for layer in layers]
    try:
        yield
    finally:
        for layer, weight, constants in kept:
            layer.write(weight)
            for tensor, value in constants:
                tensor.copy_(value)


def _constants(layer: Layer) -> list[Tensor]:
    mean = layer.norm.running_mean if layer.norm is not None else None
    return [tensor for tensor in (layer.bias, mean) if tensor is not None]

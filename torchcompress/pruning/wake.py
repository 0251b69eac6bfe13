"""A copy of a model in which nothing is constant or at zero, so that no fault can hide."""

import torch
from torch import Tensor, nn

from torchcompress.core.modules import named_tensors, shadow

TINY = 1e-3
"""A tensor whose largest value is below this hides what it multiplies."""


def awakened(model: nn.Module) -> nn.Module:
    """Returns a copy whose weights are large, and whose norms and constant tensors are random.

    A residual branch whose last norm or scale starts at zero hides every fault in it; a bias or a
    norm's weight that is the same everywhere hides that the wrong indices were cut; weights of a
    small initialisation hide what an attention does with its scores.

    Args:
        model: A model; its own tensors are left alone.
    """
    awake = shadow(model)
    generator = torch.Generator().manual_seed(1)
    for module in awake.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for tensor, low in (
                (module.weight, 0.5),
                (module.bias, -0.5),
                (module.running_mean, -0.5),
                (module.running_var, 0.5),
            ):
                if tensor is not None:
                    tensor.data = _uniform(tensor, generator, low)
    for tensor in named_tensors(awake).values():
        if tensor.is_floating_point() and tensor.numel() > 1 and tensor.layout == torch.strided:
            low, high = (float(value) for value in tensor.detach().aminmax())
            if max(-low, high) < TINY:
                fan_in = tensor[0].numel() if tensor.dim() > 1 else 1
                tensor.data = _uniform(tensor, generator, 0.1) / fan_in**0.5
            elif low == high:
                tensor.data = low * _uniform(tensor, generator, 0.5)
            if tensor.dim() > 1:
                gain = float(tensor.detach().square().mean().sqrt()) * tensor[0].numel() ** 0.5
                tensor.data = tensor.data / min(gain, 1.0)
    return awake


def _uniform(tensor: Tensor, generator: torch.Generator, low: float) -> Tensor:
    value = torch.rand(tensor.shape, generator=generator) + low
    return value.to(tensor)

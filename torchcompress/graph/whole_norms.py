"""Weights that are divided by a norm of the whole weight, so that any cut would scale the rest."""

from collections.abc import Iterator

from torch import nn
from torch.nn.utils.parametrizations import _SpectralNorm, _WeightNorm
from torch.nn.utils.parametrize import ParametrizationList
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm


def normed_as_a_whole(model: nn.Module) -> Iterator[str]:
    """Yields the names of the parameters that such weights are computed from.

    These are spectral norm, and weight norm without a dimension, in both forms of torch.

    Args:
        model: Any model.
    """
    for path, module in model.named_modules():
        prefix = f"{path}." if path else ""
        if isinstance(module, ParametrizationList):
            for step in module:
                if isinstance(step, _SpectralNorm):
                    yield f"{prefix}original"
                elif isinstance(step, _WeightNorm) and step.dim < 0:
                    yield f"{prefix}original1"
        for hook in module._forward_pre_hooks.values():
            if isinstance(hook, SpectralNorm):
                yield f"{prefix}{hook.name}_orig"
            elif isinstance(hook, WeightNorm) and hook.dim < 0:
                yield f"{prefix}{hook.name}_v"

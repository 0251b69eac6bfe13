"""A copy of a model in which nothing is constant or at zero, so that no fault can hide."""

from collections.abc import Callable
from typing import Any

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


def settled(model: nn.Module, run: Callable[[nn.Module], object]) -> nn.Module:
    """Returns a copy whose batch norms have statistics near those of one run.

    A deep model with any others blows up whatever it computes.

    Args:
        model: A model, as `awakened` gives it; its own tensors are left alone.
        run: Runs the copy.
    """
    model = shadow(model)
    found: dict[nn.Module, tuple[Tensor, Tensor]] = {}
    generator = torch.Generator().manual_seed(2)

    def measure(norm: Any, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].detach()
        others = [dim for dim in range(x.dim()) if dim != 1]
        mean, spread = x.mean(others), x.var(others, correction=0)
        if not (mean.isfinite().all() and spread.isfinite().all()):
            return
        # A channel of one value has no spread; near none, each norm would blow rounding up.
        spread = spread.clamp_min(1e-6).maximum(mean.square())
        shift, stretch = (_uniform(mean, generator, low) for low in (-0.5, 0.5))
        found[norm] = mean + shift * spread.sqrt(), spread * stretch
        norm.running_mean, norm.running_var = found[norm]

    handles = [norm.register_forward_pre_hook(measure) for norm in _norms(model).values()]
    try:
        run(model)
    finally:
        for handle in handles:
            handle.remove()
    for norm, (mean, spread) in found.items():
        norm.running_mean, norm.running_var = mean, spread
    return model


def settled_on_cut(
    model: nn.Module, cut: Callable[[nn.Module], object], run: Callable[[nn.Module], object]
) -> nn.Module:
    """Returns a copy whose batch norms have statistics near those of one run of its cut form.

    Args:
        model: A model; its own tensors are left alone.
        cut: Cuts a copy in place.
        run: Runs the cut copy.
    """
    model, numbered = shadow(model), shadow(model)
    for norm in _norms(numbered).values():
        norm.running_mean = torch.arange(len(norm.running_mean)).to(norm.running_mean)
    cut(numbered)
    norms = _norms(model)
    kept = {path: norm.running_mean.long() for path, norm in _norms(numbered).items()}
    for path, norm in _norms(numbered).items():
        norm.running_mean = norms[path].running_mean[kept[path]]
    for path, norm in _norms(settled(numbered, run)).items():
        norms[path].running_mean[kept[path]] = norm.running_mean
        norms[path].running_var[kept[path]] = norm.running_var
    return model


def _norms(model: nn.Module) -> dict[str, Any]:
    return {path: norm for path, norm in model.named_modules() if _keeps_statistics(norm)}


def _keeps_statistics(module: Any) -> bool:
    kept = isinstance(module, nn.modules.batchnorm._BatchNorm)
    return kept and module.running_mean is not None and module.running_var is not None


def _uniform(tensor: Tensor, generator: torch.Generator, low: float) -> Tensor:
    value = torch.rand(tensor.shape, generator=generator) + low
    return value.to(tensor)

"""How much the outputs of a model move with the outputs of each layer."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from torchcompress.core.errors import CalibrationError
from torchcompress.core.inputs import tensors_in
from torchcompress.core.modules import undisturbed
from torchcompress.core.progress import progress
from torchcompress.graph.running import plain_kernels
from torchcompress.reconstruction.capture import Calibration
from torchcompress.reconstruction.layers import Layer


def output_sensitivity(
    model: nn.Module, layers: Sequence[Layer], calibration: Calibration, seed: int = 0
) -> dict[str, Tensor]:
    """Returns the mean squared change of a model's outputs with each output of each layer.

    The diagonal of the Gauss-Newton matrix, estimated without labels: the outputs are summed with
    random signs, and the squares of that sum's gradients are averaged over all rows (Hutchinson
    1990). An error of a layer's outputs, times this, is the error that the model's outputs get
    from it, to second order.

    Args:
        model: The model; left as it was.
        layers: Its layers.
        calibration: The batches.
        seed: Of the signs.

    Returns:
        (groups, outputs) by layer name, float64; zero for a layer that moves no output.

    Raises:
        CalibrationError: A batch that the model fails on, or a model that turns gradients off.
    """
    sums = {layer.name: torch.zeros(layer.weight.shape[:2]).double() for layer in layers}
    counts = dict.fromkeys(sums, 0)
    signs = torch.Generator().manual_seed(seed)

    def adder(layer: Layer) -> Callable[[Tensor], None]:
        def add(gradient: Tensor) -> None:
            squares = layer.output_rows(gradient.detach()).double().square()
            sums[layer.name] += squares.sum(1).cpu()
            counts[layer.name] += squares.shape[1]

        return add

    def called(module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        if not torch.is_grad_enabled():
            raise CalibrationError(
                "the forward pass turns gradients off (no_grad), which say what the layer is worth",
                where=by_module[module][0].name,
                hint="take no_grad out of the model; callers turn gradients off themselves",
            )
        hooks = [(layer, adder(layer)) for layer in by_module[module]]
        return hooks[0][0].probe(args, kwargs, output, hooks)

    by_module: dict[nn.Module, list[Layer]] = {}
    for layer in layers:
        by_module.setdefault(layer.module, []).append(layer)
    with ExitStack() as stack:
        stack.enter_context(undisturbed(model))
        stack.enter_context(plain_kernels())
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.requires_grad_(False)
                stack.callback(parameter.requires_grad_, True)
        for module in by_module:
            stack.callback(module.register_forward_hook(called, with_kwargs=True).remove)
        for index in progress(range(len(calibration)), "sensitivity", unit="batch"):
            with torch.enable_grad():
                _signed_sum(calibration.call(model, index), signs).backward()
    return {name: total / max(counts[name], 1) for name, total in sums.items()}


def _signed_sum(outputs: Any, signs: torch.Generator) -> Tensor:
    """Returns the sum of all numbers of a model's outputs, each with a random sign."""
    total = torch.zeros((), requires_grad=True)
    for _, tensor in tensors_in(outputs):
        if tensor.requires_grad:
            sign = torch.randint(0, 2, tensor.shape, generator=signs).to(tensor) * 2 - 1
            total = total.to(tensor.device) + (tensor * sign).sum()
    return total

"""Re-solving the layers that lost input channels, on calibration data, without labels."""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torchcompress.core.inputs import (
    Forward,
    calibration_batches,
    call,
    run_batch,
    tensors_in,
    to_device,
)
from torchcompress.core.modules import device_of, undisturbed
from torchcompress.core.progress import progress
from torchcompress.reconstruction.least_squares import LeastSquares

RIDGE = 1e-2
"""How strongly weights are drawn to what they were; the best on the checkpoints of 1e-3 to 1e-1."""


@dataclass
class _Layer:
    """A convolution or linear layer as it runs.

    Attributes:
        module: The layer in the pruned model.
        calls: How often one forward pass calls it.
        norm: The batch norm that reads its output, if exactly one does.
    """

    module: nn.Conv2d | nn.Linear
    calls: int = 0
    norm: nn.modules.batchnorm._BatchNorm | None = None


class _SeenAllError(Exception):
    """Ends a forward pass once the last tensor of interest has been seen."""


def resolve_consumers(
    dense: nn.Module,
    pruned: nn.Module,
    removed: Mapping[str, Mapping[int, list[int]]],
    calibration: Iterable[Any],
    *,
    forward: Forward | None = None,
    ridge: float = RIDGE,
) -> float:
    """Fits each layer that lost input channels to what it gave before, in place.

    Layer by layer in the order of the run, ridge least squares maps the inputs that the layer now
    gets, after all earlier layers were fitted, to the outputs that it had in the dense model. The
    intercept goes into the bias, or into the mean of the batch norm that follows. If the outputs
    of the whole model end up no closer to the dense ones, every change is undone.

    The idea is that of He et al. 2017, "Channel Pruning for Accelerating Very Deep Neural
    Networks", with the asymmetric inputs of Zhang et al. 2016, "Accelerating Very Deep
    Convolutional Networks". Convolutions with groups, and layers called by keyword or on inputs
    without a batch dimension, keep their weights.

    Args:
        dense: The model before its channels went; left as it was.
        pruned: The model after.
        removed: For each parameter the indices that went from each dimension (`plan.removed`).
        calibration: Batches; a few hundred unlabelled samples, held in memory.
        forward: How the models are called on a batch.
        ridge: Strength of the pull towards the weights as they are, relative to the mean energy of
            a layer's inputs.

    Returns:
        What remains of the squared error of the outputs, as a fraction; 1 where nothing was kept.

    Raises:
        CalibrationError: No batch, one that is not finite, or one that the model fails on.
    """
    device = device_of(pruned)
    batches = [to_device(x, device) for _, x in calibration_batches(calibration, forward)]
    run = forward or call
    kept = copy.deepcopy(pruned.state_dict())
    wanted = _outputs(dense, batches, run)
    before = _error(pruned, batches, wanted, run)
    layers = {
        path: layer
        for path, layer in _layers(pruned, batches[0], run).items()
        if removed.get(f"{path}.weight", {}).get(1)
    }
    for path, layer in progress(layers.items(), "least squares", unit="layer"):
        gone = removed[f"{path}.weight"].get(0, [])
        fit = LeastSquares(layer.module.weight[0].numel(), len(layer.module.weight), device)
        for batch in batches:
            outputs = [y for _, y in _seen(dense, path, layer.calls, batch, run)]
            inputs = [x for x, _ in _seen(pruned, path, layer.calls, batch, run)]
            for x, y in zip(inputs, outputs, strict=True):
                fit.add(_input_rows(layer.module, x), _output_rows(layer.module, y, gone))
        _write(layer, fit, ridge)
    after = _error(pruned, batches, wanted, run)
    if not after < before:
        pruned.load_state_dict(kept)
        return 1.0
    return after / before


def _outputs(model: nn.Module, batches: list[Any], run: Forward) -> list[Any]:
    outputs = []
    with undisturbed(model):
        for index, batch in enumerate(batches):
            outputs.append(run_batch(run, model, batch, f"calibration batch {index}"))
    return outputs


def _error(model: nn.Module, batches: list[Any], wanted: list[Any], run: Forward) -> float:
    """Returns the summed squared difference of a model's outputs from the wanted ones."""
    error = 0.0
    with undisturbed(model):
        for batch, reference in zip(batches, wanted, strict=True):
            pairs = zip(tensors_in(run(model, batch)), tensors_in(reference), strict=True)
            error += sum(float((a.float() - b.float()).square().sum()) for (_, a), (_, b) in pairs)
    return error


def _layers(model: nn.Module, batch: Any, run: Forward) -> dict[str, _Layer]:
    """Returns the layers that can be fitted, in the order in which one pass calls them."""
    found: dict[str, _Layer] = {}
    outputs: dict[int, tuple[Tensor, _Layer]] = {}
    readers: dict[int, set[nn.Module]] = {}
    odd: set[nn.Module] = set()
    paths = {module: path for path, module in model.named_modules()}

    def produced(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d | nn.Linear)
        if not inputs or inputs[0].dim() < (4 if isinstance(module, nn.Conv2d) else 2):
            odd.add(module)
        layer = found.setdefault(paths[module], _Layer(module))
        layer.calls += 1
        outputs[id(output)] = output, layer

    def read(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if inputs and id(inputs[0]) in outputs:
            readers.setdefault(id(outputs[id(inputs[0])][1]), set()).add(module)

    hooks = []
    for module in paths:
        if _can_be_fitted(module):
            hooks.append(module.register_forward_hook(produced))
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            hooks.append(module.register_forward_pre_hook(read))
    try:
        with undisturbed(model):
            run(model, batch)
    finally:
        for hook in hooks:
            hook.remove()
    for layer in found.values():
        norms = readers.get(id(layer), set())
        if len(norms) == 1:
            (norm,) = norms
            assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
            layer.norm = norm if norm.running_mean is not None else None
    return {path: layer for path, layer in found.items() if layer.module not in odd}


def _can_be_fitted(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv2d):
        zeros = module.padding_mode == "zeros" and not isinstance(module.padding, str)
        return zeros and module.groups == 1
    return isinstance(module, nn.Linear)


def _seen(
    model: nn.Module, path: str, calls: int, batch: Any, run: Forward
) -> list[tuple[Tensor, Tensor]]:
    """Runs a model until a layer has been called so often; returns its inputs and outputs."""
    pairs: list[tuple[Tensor, Tensor]] = []

    def record(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        pairs.append((inputs[0], output))
        if len(pairs) == calls:
            raise _SeenAllError

    hook = model.get_submodule(path).register_forward_hook(record)
    try:
        with undisturbed(model):
            run(model, batch)
    except _SeenAllError:
        pass
    finally:
        hook.remove()
    return pairs


def _input_rows(layer: nn.Conv2d | nn.Linear, x: Tensor) -> Tensor:
    """Returns what each output position reads, (positions, weights of one output)."""
    if isinstance(layer, nn.Linear):
        return x.reshape(-1, x.shape[-1]).float()
    assert not isinstance(layer.padding, str)
    columns = F.unfold(x.float(), layer.kernel_size, layer.dilation, layer.padding, layer.stride)
    return columns.transpose(1, 2).reshape(-1, columns.shape[1])


def _output_rows(layer: nn.Conv2d | nn.Linear, y: Tensor, gone: list[int]) -> Tensor:
    """Returns the outputs that remain, (positions, outputs)."""
    rows = (y if isinstance(layer, nn.Linear) else y.movedim(1, -1)).flatten(0, -2).float()
    keep = torch.ones(rows.shape[1], dtype=torch.bool, device=rows.device)
    keep[gone] = False
    return rows[:, keep]


def _write(layer: _Layer, fit: LeastSquares, ridge: float) -> None:
    module = layer.module
    absorbs = module.bias is not None or layer.norm is not None
    weight, constant = fit.solve(module.weight.detach().flatten(1), ridge, intercept=absorbs)
    with torch.no_grad():
        module.weight.copy_(weight.reshape(module.weight.shape))
        if module.bias is not None:
            module.bias.copy_(constant)
        elif layer.norm is not None and layer.norm.running_mean is not None:
            layer.norm.running_mean.sub_(constant.to(layer.norm.running_mean.dtype))

"""Re-solving the layers of a model that lost channels, on calibration data, without labels."""

import copy
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from torchcompress.core.inputs import Forward
from torchcompress.core.progress import progress
from torchcompress.reconstruction.batch_norms import reestimate_batch_norms
from torchcompress.reconstruction.capture import Calibration, solvable_layers, watch
from torchcompress.reconstruction.constants import put_constant, takes_constant
from torchcompress.reconstruction.held_out import held_out_from
from torchcompress.reconstruction.layers import TRANSPOSED, Convolution, Layer, Linear, Norm, Seen
from torchcompress.reconstruction.least_squares import Affine, best_fit
from torchcompress.reconstruction.output_error import OutputError
from torchcompress.reconstruction.statistics import Moments
from torchcompress.reconstruction.sums import Sum, find_sums, see_sum

_SMALLEST_SCALE = 1e-3
"""Channels that a batch norm scales by less than this share of its largest take up no skip."""

Removed = Mapping[str, Mapping[int, list[int]]]


@dataclass(frozen=True)
class _Pair:
    """A layer of the pruned model and the same one of the dense model.

    Attributes:
        layer: The pruned one.
        twin: The dense one.
        kept: The outputs of the twin that the layer still has.
        sum: The sum that both end in, if any.
    """

    layer: Layer
    twin: Layer
    kept: Tensor
    sum: Sum | None


@dataclass(frozen=True)
class Earlier:
    """What an earlier run has fitted before it was stopped, and how this one keeps its own.

    Attributes:
        layers: Names of the layers that are done.
        state: The pruned model's tensors after them, by name.
        keep: Called with the name of each further layer that is done, and the model.
    """

    layers: Collection[str]
    state: Mapping[str, Tensor]
    keep: Callable[[str, nn.Module], None]


def resolve_consumers(
    dense: nn.Module,
    pruned: nn.Module,
    removed: Removed,
    calibration: Iterable[Any],
    *,
    forward: Forward | None = None,
    earlier: Earlier | None = None,
    exclude: Collection[str] = (),
) -> float:
    """Fits each layer from the first that lost inputs on to what it gave before, in place.

    Layer by layer in the order of the run, ridge least squares maps the inputs that the layer now
    gets, after all earlier layers were fitted, to the outputs that it had in the dense model (He
    et al. 2017, "Channel Pruning for Accelerating Very Deep Neural Networks"; Zhang et al. 2016,
    "Accelerating Very Deep Convolutional Networks", for the inputs of the pruned model). The last
    layer of a residual branch is fitted so that the sum is that of the dense model: it takes up
    what the skip lacks. The intercept goes into the bias, or into the mean of the batch norm that
    follows. The ridge is chosen, and the fit kept, by what it does on a quarter of the batches
    that it has not seen. At the end the statistics of batch norms are estimated anew where that
    brings the outputs of the whole model closer to the dense ones. If these end up no closer than
    before, every change is undone.

    Convolutions with groups, transposed ones and linear layers are fitted; projections of an
    attention keep their weights. Memory is that of the batches, the models' outputs and three
    times the moments of the widest layer.

    Args:
        dense: The model before its channels went; left as it was.
        pruned: The model after.
        removed: For each parameter the indices that went from each dimension (`plan.removed`).
        calibration: Batches; a few hundred unlabelled samples, held in memory.
        forward: How the models are called on a batch.
        earlier: Where a run that was stopped goes on; by default nothing is kept.
        exclude: Names of weights that stay as they are.

    Returns:
        What remains of the squared error of the outputs, as a fraction; 1 where nothing was kept.

    Raises:
        CalibrationError: No batch, one that is not finite, or one that a model fails on.
    """
    batches = Calibration(calibration, pruned, forward)
    outputs = OutputError(dense, batches)
    before = outputs.of(pruned)
    kept = copy.deepcopy(pruned.state_dict())
    pairs = _pairs(dense, pruned, removed, batches)
    pairs = [pair for pair in pairs if pair.layer.parameter not in exclude]
    if earlier is not None and earlier.layers:
        pruned.load_state_dict(earlier.state)
        pairs = [pair for pair in pairs if pair.layer.name not in earlier.layers]
    for pair in progress(pairs, "least squares", unit="layer"):
        _fit(dense, pruned, pair, batches)
        if earlier is not None:
            earlier.keep(pair.layer.name, pruned)
    after = _with_batch_norms(pruned, batches, outputs)
    if not after < before:
        pruned.load_state_dict(kept)
        return 1.0
    return after / before


def _with_batch_norms(model: nn.Module, calibration: Calibration, outputs: OutputError) -> float:
    """Estimates batch norms anew, keeps that if it helps, and returns the error of the outputs."""
    error = outputs.of(model)
    if not any(isinstance(module, Norm) for module in model.modules()):
        return error
    kept = copy.deepcopy(model.state_dict())
    reestimate_batch_norms(model, calibration)
    again = outputs.of(model)
    if not again < error:
        model.load_state_dict(kept)
    return min(error, again)


def _pairs(
    dense: nn.Module, pruned: nn.Module, removed: Removed, calibration: Calibration
) -> list[_Pair]:
    """Returns the layers that can be fitted, from the first that lost inputs on."""
    layers = solvable_layers(pruned, calibration)
    twins = {layer.name: layer for layer in solvable_layers(dense, calibration)}
    sums = find_sums(pruned, layers, calibration)
    whole = find_sums(dense, list(twins.values()), calibration)
    pairs: list[_Pair] = []
    for layer in layers:
        lost = removed.get(layer.parameter, {})
        if not pairs and not lost.get(0 if isinstance(layer.module, TRANSPOSED) else 1):
            continue
        twin = twins.get(layer.name)
        if twin is not None and isinstance(layer, Convolution | Linear):
            kept = _kept(layer, twin, removed)
            same = sums.get(layer.name) == whole.get(layer.name)
            if kept is not None and twin.calls == layer.calls:
                pairs.append(_Pair(layer, twin, kept, sums.get(layer.name) if same else None))
    return pairs


def _kept(layer: Layer, twin: Layer, removed: Removed) -> Tensor | None:
    """Returns the outputs that are left, or None where that is not known."""
    groups, outputs = twin.weight.shape[:2]
    keep = torch.ones(groups * outputs, dtype=torch.bool)
    if not isinstance(layer.module, TRANSPOSED):
        keep[removed.get(layer.parameter, {}).get(0, [])] = False
    elif layer.bias is not None:
        keep[removed.get(f"{layer.name}.bias", {}).get(0, [])] = False
    elif groups == 1:
        keep[removed.get(layer.parameter, {}).get(1, [])] = False
    left = keep.nonzero()[:, 0].to(layer.weight.device)
    return left if len(left) == layer.weight[:, :, 0].numel() else None


def _fit(dense: nn.Module, pruned: nn.Module, pair: _Pair, calibration: Calibration) -> None:
    """Fits one layer, where that helps."""
    layer, at = pair.layer, held_out_from(calibration)
    parts: list[Moments | None] = [None, None]
    for index in range(len(calibration)):
        for call in _calls(dense, pruned, pair, calibration, index):
            for x, y in layer.rows(call):
                part = parts[index >= at > 0]
                if part is None:
                    part = Moments.zeros(len(x), x.shape[2], y.shape[2], x.device)
                    parts[index >= at > 0] = part
                part.add(x, y)
    fit = parts[0]
    assert fit is not None
    now = Affine(layer.weight, layer.bias)
    found = best_fit(fit, parts[1] or fit, now, intercept=takes_constant(layer))
    if found is not None:
        layer.write(found.weight)
        if found.constant is not None:
            put_constant(layer, found.constant)


def _calls(
    dense: nn.Module, pruned: nn.Module, pair: _Pair, calibration: Calibration, index: int
) -> list[Seen]:
    """Returns what the layer reads on a batch, with the outputs that are wanted of it."""
    dim = -1 if isinstance(pair.layer, Linear) else 1
    if pair.sum is not None:
        was, beside = see_sum(dense, pair.twin, pair.sum, calibration, index)
        call, beside_now = see_sum(pruned, pair.layer, pair.sum, calibration, index)
        wanted = was.y.index_select(dim, pair.kept)
        if beside is not None and beside_now is not None:
            lacking = beside.reshape(was.y.shape).index_select(dim, pair.kept)
            lacking = lacking - beside_now.reshape(wanted.shape)
            wanted = wanted + lacking / _scale(pair.layer, wanted, dim)
        return [Seen(call.x, wanted)]
    outputs: list[Tensor] = []
    calls: list[Seen] = []
    watch(dense, [pair.twin], calibration, index, lambda _, seen: outputs.append(seen.y.clone()))
    watch(pruned, [pair.layer], calibration, index, lambda _, seen: calls.append(_copy(seen)))
    return [
        Seen(call.x, y.index_select(dim, pair.kept)) for call, y in zip(calls, outputs, strict=True)
    ]


def _copy(seen: Seen) -> Seen:
    return Seen(seen.x.clone(), seen.y)


def _scale(layer: Layer, like: Tensor, dim: int) -> Tensor:
    """Returns what the batch norm behind a layer multiplies its channels by; infinity for tiny."""
    norm = layer.norm
    if norm is None or norm.running_var is None:
        return torch.ones((), device=like.device)
    scale = (norm.running_var + norm.eps).rsqrt()
    scale = scale if norm.weight is None else scale * norm.weight.detach()
    small = scale.abs() < _SMALLEST_SCALE * scale.abs().max()
    scale = torch.where(small, torch.inf, scale)
    return scale.reshape(-1, *[1] * (like.dim() - 2)) if dim == 1 else scale

"""`tc.sparsify`: zeros without training."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import nn

from torchcompress.core.errors import CompressError, TargetUnreachable, UnsupportedError
from torchcompress.core.inputs import Forward
from torchcompress.core.modules import copied, unwrapped
from torchcompress.core.target import Target
from torchcompress.pruning.sparsify_file import Finished, run_key
from torchcompress.pruning.sparsify_passes import Budget, Ingredients, sparsify_layers
from torchcompress.pruning.weights.pattern import (
    NM,
    Pattern,
    check_divides,
    check_pattern_target,
    parse_pattern,
)
from torchcompress.pruning.weights.plan import SparsityPlan
from torchcompress.pruning.weights.selection import Selection, prunable_weights
from torchcompress.reconstruction.batch_norms import reestimate_batch_norms
from torchcompress.reconstruction.capture import Calibration, solvable_layers
from torchcompress.reconstruction.layers import Layer
from torchcompress.reconstruction.obs import Tiles
from torchcompress.reconstruction.output_error import OutputError

M = TypeVar("M", bound=nn.Module)


@torch.inference_mode(False)
def sparsify(
    model: M,
    target: Target | None,
    calibration: Iterable[Any],
    *,
    pattern: str | Pattern | None = None,
    exclude: Iterable[str] = (),
    keep_ends: bool = False,
    forward: Forward | None = None,
    resume: str | Path | None = None,
    inplace: bool = False,
    ingredients: Ingredients = Ingredients(),  # noqa: B008 - frozen
) -> M:
    """Returns a model with zeros among its weights, without labels and without training.

    In a few passes, each over all layers in the order of the run, the weights go whose removal
    costs the model's outputs least, and those that stay are solved anew: least squares with a
    constant maps the inputs that a layer gets by then to the outputs that it had in the dense
    model. What a removal costs is the optimal brain surgeon's (Hassibi and Stork 1993), times how
    far the layer's output moves the model's (Gauss-Newton); so one threshold gives every layer its
    own sparsity. Statistics of batch norms are estimated anew where that brings the model's
    outputs closer to the dense ones.

    Memory is that of three models, a Gram matrix of the widest layer (see `Moments`) with three
    more of its size while it is solved, and the activations that live at one layer, for all
    batches, twice. Zeros bring no speed on a CPU; they make a smaller file.

    Args:
        model: Any model, in any mode.
        target: `Target(sparsity=)`: the fraction of all weights of convolutions, linear layers and
            attention projections that are zero afterwards, those that stay and those that are zero
            before included. None with an `n:m` pattern, which says it.
        calibration: Batches of a few hundred samples; labels are ignored. They are held in memory.
        pattern: `n:m` or `block:RxC` (see `parse_pattern`); None for single weights.
        exclude: Globs over module paths; these layers stay as they are.
        keep_ends: Whether the first convolution and the last layer stay as they are; by default
            they lose what the budget of error allows.
        forward: How the model is called on a batch.
        resume: A file in which each layer that is done is kept; it is read where it exists, and
            may be deleted afterwards.
        inplace: Change `model` itself.
        ingredients: What is done; for measurements of what each is worth.

    Raises:
        CompressError: An argument out of range, a glob that matches nothing, a file of another
            run.
        CalibrationError: Calibration data that is empty, not finite or of the wrong shape.
        TargetUnreachable: The layers that calibration reaches are too few for the target.
        UnsupportedError: A pattern that does not divide a layer, or no layer that can be solved.
    """
    if not isinstance(ingredients, Ingredients):
        raise CompressError(f"{ingredients!r} are none", where="ingredients")
    inner = unwrapped(model)
    grouping = parse_pattern(pattern)
    target = check_pattern_target(grouping, target)
    selection = prunable_weights(inner, exclude, keep_ends)
    check_divides(grouping, selection.free)
    data = Calibration(calibration, inner, forward)
    sparse = copied(inner)
    layers, notes = _free_layers(sparse, selection, data)
    kept_names = {layer.name for layer in layers}
    twins = [twin for twin in solvable_layers(inner, data) if twin.name in kept_names]
    wanted = OutputError(inner, data) if ingredients.batch_norms else None
    key = run_key(inner, data, (target, grouping, sorted(kept_names), ingredients))
    sparsify_layers(
        sparse,
        layers,
        inner,
        twins,
        data,
        _budget(selection, layers, target, grouping),
        ingredients,
        Finished(resume, key),
    )
    if wanted is not None:
        _reestimate(sparse, data, wanted)
    plan = _plan(sparse, selection, layers, target, grouping, notes)
    if not inplace:
        return cast(M, plan.apply(sparse, inplace=True))
    inner.load_state_dict(sparse.state_dict())
    plan.apply(inner, inplace=True)
    return model


def _free_layers(
    model: nn.Module, selection: Selection, data: Calibration
) -> tuple[list[Layer], dict[str, str]]:
    """Returns the layers that may lose weights, and why other weights stay."""
    free = {weight.name for weight in selection.free}
    layers = [layer for layer in solvable_layers(model, data) if layer.parameter in free]
    reached = {layer.parameter for layer in layers}
    notes = dict(selection.stays)
    why = "calibration never reached it, or other layers share it"
    notes |= dict.fromkeys(sorted(free - reached), why)
    if not layers:
        raise UnsupportedError(
            "calibration reaches no layer whose weights may become zero",
            where=type(model).__name__,
            hint="call the layers as modules, or exclude less",
        )
    return layers, notes


def _budget(
    selection: Selection, layers: list[Layer], target: Target, pattern: Pattern | None
) -> Budget:
    """Returns how many weights of the layers go, so that the whole model meets the target."""
    whole = sum(layer.weight.numel() for layer in layers)
    zeros = sum(int((layer.weight == 0).sum()) for layer in layers)
    if isinstance(pattern, NM):
        return Budget(round(pattern.sparsity * whole), whole, Tiles(1, pattern.m, pattern.n))
    outside = sum(int((w.parameter == 0).sum()) for w in selection.weights) - zeros
    needed = round(target.value * selection.count) - outside
    size = 1 if pattern is None else pattern.outputs * pattern.inputs
    most = whole - size * len(layers)
    if needed > most:
        raise TargetUnreachable(
            f"only {100 * (most + outside) / selection.count:.1f} % of the weights can become zero",
            where=str(target),
            hint="exclude fewer layers, or ask for less",
        )
    tiles = None if pattern is None else Tiles(pattern.outputs, pattern.inputs)
    return Budget(max(needed, zeros), whole, tiles)


def _reestimate(model: nn.Module, data: Calibration, wanted: OutputError) -> None:
    before = wanted.of(model)
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    reestimate_batch_norms(model, data)
    if not wanted.of(model) < before:
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])


def _plan(
    model: nn.Module,
    selection: Selection,
    layers: list[Layer],
    target: Target,
    pattern: Pattern | None,
    notes: dict[str, str],
) -> SparsityPlan:
    parameters = dict(model.named_parameters())
    return SparsityPlan(
        target=str(target),
        pattern=None if pattern is None else str(pattern),
        shapes={weight.name: tuple(weight.parameter.shape) for weight in selection.weights},
        kept={
            name: parameters[name].detach() != 0
            for name in dict.fromkeys(layer.parameter for layer in layers)
        },
        notes=notes,
    )

"""Cross-layer equalization and SmoothQuant: channels of similar size share a range better."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from torchcompress.quantization import interpreter
from torchcompress.quantization.adjustments import Adjustment, adjusted
from torchcompress.quantization.calibrate import Batches, ProgramModule
from torchcompress.quantization.observed_ranges import observe_grids
from torchcompress.quantization.ptq.channel_groups import ChannelGroup, channel_groups
from torchcompress.quantization.ptq.samples import Inputs, Samples
from torchcompress.quantization.quantize_part import Draft
from torchcompress.quantization.ranges import range_classes
from torchcompress.quantization.sources import Source

_LARGEST = 1e3


def equalize(
    draft: Draft,
    samples: Samples,
    *,
    batches: Batches,
    strength: float,
    norms: bool,
    histogram: bool,
) -> Draft:
    """Moves factors between layers so that the channels of an activation differ less in size.

    A channel is divided by `peak^strength / read^(1 - strength)`: its largest magnitude, and that
    of the weights that read it (Xiao et al. 2023, "SmoothQuant"). The layer or norm before it and
    those behind it take the factors, as in Nagel et al. 2019, "Data-Free Quantization Through
    Weight Equalization and Bias Correction"; int8 weights have a step for each output channel, so
    the layer before loses nothing.

    Args:
        draft: With its layers as folded.
        samples: Calibration data that the factors are chosen on.
        batches: All of it: the values that factors move get new ranges.
        strength: 0 leaves activations as they are; 1 makes all channels equally large.
        norms: Act on what layer norms write, else on what layers write.
        histogram: How the new ranges are chosen.
    """
    groups = [
        group
        for group in channel_groups(draft.program, draft.sources)
        if any(op.kind == "layer_norm" for op in group.producers) == norms
    ]
    stored = draft.stored
    last = {value: group.last for group in groups for value in group.values if value in stored}
    if not last:
        return draft
    peaks = channel_peaks(draft.float_module(), samples.fit, last)
    adjustments = dict(draft.adjustments)
    for group in groups:
        own = [peaks[value] for value in group.values if value in peaks]
        if own:
            factors = _factors(draft, group, torch.stack(own).amax(0).double(), strength)
            _move(adjustments, group, factors)
    changed = replace(draft, adjustments=adjustments)
    classes = range_classes(draft.program)
    grids, extents = observe_grids(
        changed.float_module(),
        batches,
        classes,
        {classes[value] for value in last},
        histogram=histogram,
        zero_centered=draft.symmetric,
    )
    return replace(changed, grids={**draft.grids, **grids}, extents={**draft.extents, **extents})


def channel_peaks(
    module: ProgramModule, calls: Sequence[Inputs], last: Mapping[str, bool]
) -> dict[str, Tensor]:
    """Returns the largest magnitude of each channel, by value.

    Args:
        module: The float program.
        calls: Its inputs.
        last: For each value of interest, whether channels stand in the last dimension.
    """
    peaks: dict[str, Tensor] = {}
    with torch.no_grad():
        for inputs in calls:
            for _, value, made in interpreter.steps(
                module.program, module.tensors, inputs, types=module.types
            ):
                if value in last:
                    own = made.abs().movedim(-1 if last[value] else 1, 0).flatten(1).amax(1)
                    peaks[value] = torch.maximum(peaks[value], own) if value in peaks else own
    return peaks


def _factors(draft: Draft, group: ChannelGroup, peaks: Tensor, strength: float) -> Tensor:
    read = torch.zeros_like(peaks)
    for op in group.consumers:
        if op.kind == "affine" or op.args.get("groups", 1) == len(peaks):
            continue  # A channel of its own in int8, whatever its size.
        read = torch.maximum(read, _weight_peaks(draft, op.layer or "", op.args.get("groups", 1)))
    if not read.any():
        read, strength = torch.ones_like(read), 1.0
    factors = read.pow(1 - strength) / peaks.pow(strength)
    usable = (peaks > 0) & (read > 0) & factors.isfinite() & (factors > 0)
    if not usable.any():
        return torch.ones_like(peaks)
    center = factors[usable].log().mean().exp()
    return torch.where(usable, factors / center, 1.0).clamp(1 / _LARGEST, _LARGEST)


def _weight_peaks(draft: Draft, layer: str, groups: int) -> Tensor:
    """Returns the largest magnitude that each input channel is multiplied with."""
    source = draft.sources[layer]
    assert isinstance(source, Source)
    weight, _ = adjusted(source, draft.adjustments.get(layer, Adjustment()), draft.state)
    grouped = weight.abs().flatten(2).amax(2) if weight.dim() > 2 else weight.abs()
    return grouped.unflatten(0, (groups, -1)).amax(1).flatten()


def _move(adjustments: dict[str, Adjustment], group: ChannelGroup, factors: Tensor) -> None:
    for key in group.written:
        adjustments[key] = adjustments.get(key, Adjustment()).scaled(outputs=factors)
    for op in group.consumers:
        key = op.layer or ""
        adjustments[key] = adjustments.get(key, Adjustment()).scaled(inputs=1 / factors)

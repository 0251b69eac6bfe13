"""Learned rounding: integers that keep a layer's outputs, not just its weights."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from torchcompress.quantization.adjustments import per_channel
from torchcompress.quantization.int8.weights import rows_fit
from torchcompress.quantization.program import QParams
from torchcompress.quantization.ptq.adaround import adaround
from torchcompress.quantization.ptq.rows import input_rows, weight_rows
from torchcompress.quantization.ptq.samples import Samples
from torchcompress.quantization.ptq.walk import Visit, walk
from torchcompress.quantization.quantize_part import Draft
from torchcompress.reconstruction.rounding import round_weights

Round = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From weight rows, the Gram matrix of the inputs and the step of each row to integers."""

METHODS: dict[str, Round] = {"gptq": round_weights, "adaround": adaround}
_LEAST_ROWS = 4096
_ROWS_PER_COLUMN = 2
_WIDEST_DOUBLE = 1024
_STEPS = torch.linspace(1.0, 0.8, 21, dtype=torch.float64).tolist()


def learn_rounding(
    draft: Draft, samples: Samples, *, method: str, correct_bias: bool, seed: int
) -> Draft:
    """Learns the integers of each convolution and linear layer, behind those before it.

    Frantar et al. 2023, "GPTQ", or Nagel et al. 2020, "Up or Down?" (AdaRound). No row's squared
    output error on the sampled inputs is above that of plain rounding; zeros stay zero.

    Args:
        draft: What to round.
        samples: Calibration data.
        method: `gptq` or `adaround`.
        correct_bias: Correct each bias too, so that rounding need not keep the mean.
        seed: Of the rows of inputs that are drawn.
    """
    adjustments, integers = dict(draft.adjustments), dict(draft.integers)
    for visit in walk(draft, samples.fit, method):
        if visit.op.kind not in ("conv2d", "linear"):
            continue
        rows = weight_rows(visit.weight, visit.op)
        gram = _gram(visit, rows.shape[2], correct_bias, seed)
        weight, scale = (visit.tensors[f"{visit.layer}.{name}"] for name in ("weight", "scale"))
        made = METHODS[method](rows, gram, scale.view(rows.shape[:2]))
        made = made.view(weight.shape).to(weight.device)
        integers[visit.layer] = torch.where(_fit(visit, made, scale), made, weight)
        visit.tensors[f"{visit.layer}.weight"] = integers[visit.layer]
        if correct_bias:
            visit.correct_bias()
            adjustments[visit.layer] = visit.adjustment
    return replace(draft, adjustments=adjustments, integers=integers)


def _fit(visit: Visit, integers: Tensor, scale: Tensor) -> Tensor:
    """Returns which channels cannot overflow, broadcast over the weight."""
    grid = visit.input_type
    if not isinstance(grid, QParams):  # A layer that computes in float.
        return torch.ones_like(integers, dtype=torch.bool)
    good = rows_fit(integers.flatten(1), scale, visit.bias, grid.scale)
    return good.view(-1, *[1] * (integers.dim() - 1))


def search_steps(draft: Draft, samples: Samples, *, seed: int) -> Draft:
    """Shrinks the int8 step of an output channel where its largest weights may saturate.

    The measure is the squared output error, inputs taken as uncorrelated.

    Args:
        draft: What to change, not yet rounded.
        samples: Calibration data.
        seed: Of the rows of inputs that are drawn.
    """
    adjustments = dict(draft.adjustments)
    for visit in walk(draft, samples.fit, "weight steps"):
        if visit.op.kind not in ("conv2d", "linear"):
            continue
        rows = weight_rows(visit.weight, visit.op)
        gram = _gram(visit, rows.shape[2], False, seed)
        scale = visit.tensors[f"{visit.layer}.scale"].double().view(rows.shape[:2])
        power = gram.diagonal(dim1=1, dim2=2)[:, None].double()
        best, least = torch.ones_like(scale), torch.full_like(scale, float("inf"))
        for factor in _STEPS:
            step = (scale * factor)[:, :, None]
            gap = (rows / step).round().clamp(-127, 127) * step - rows
            error = (gap.square() * power).sum(2)
            best = torch.where(error < least, factor, best)
            least = torch.minimum(error, least)
        adjustments[visit.layer] = replace(visit.adjustment, steps=per_channel(best))
    return replace(draft, adjustments=adjustments)


def _gram(visit: Visit, columns: int, centered: bool, seed: int) -> Tensor:
    """Returns the mean products of the layer's inputs, (groups, columns, columns)."""
    most = max(_LEAST_ROWS, _ROWS_PER_COLUMN * columns)
    kernel = tuple(visit.weight.shape[2:])
    rows = input_rows(visit.op, kernel, visit.inputs(), most, seed)
    if centered:
        rows = rows - rows.mean(1, keepdim=True)
    gram = rows.mT @ rows / rows.shape[1]
    return gram.double() if columns <= _WIDEST_DOUBLE else gram

"""A cut whose survivors are fitted to what the model gave before."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from torchcompress.core.inputs import Forward
from torchcompress.core.modules import shadow, unwrapped
from torchcompress.pruning.adapters import adapt_modules
from torchcompress.pruning.plan import PruningPlan
from torchcompress.pruning.sparsify_file import Finished, run_key
from torchcompress.pruning.weights.hold import held_zeros
from torchcompress.reconstruction import resolve_consumers
from torchcompress.reconstruction.capture import Calibration
from torchcompress.reconstruction.consumers import Earlier


def apply_fitted(
    plan: PruningPlan,
    model: nn.Module,
    calibration: Iterable[Any],
    forward: Forward | None = None,
    resume: str | Path | None = None,
) -> nn.Module:
    """Returns the smaller model, its layers solved anew (see `resolve_consumers`).

    The reference is adapted like the smaller model, so that both call the same layers. Layers whose
    zeros a plan in the model's history holds keep their weights.

    Args:
        plan: What goes.
        model: The model before; left as it was.
        calibration: A few hundred unlabelled samples in batches.
        forward: How the models are called on a batch.
        resume: A file in which each layer that is done is kept; it is read where it exists, and
            may be deleted afterwards.

    Raises:
        CompressError: The plan does not fit, calibration data is empty or not finite, or the file
            is of another run.
    """
    inner = unwrapped(model)
    fitted, dense = plan.apply(model), shadow(inner)
    adapt_modules(dense, plan.removed)
    earlier = None
    if resume is not None:
        data = Calibration(calibration, inner, forward)
        finished = Finished(resume, run_key(inner, data, [json.dumps(plan.to_json())]))
        earlier = Earlier(
            finished.layers[:],
            finished.state,
            lambda name, smaller: finished.layer_done(name, torch.empty(0), smaller),
        )
    resolve_consumers(
        dense,
        fitted,
        plan.removed,
        calibration,
        forward=forward,
        earlier=earlier,
        exclude=held_zeros(inner),
    )
    return fitted

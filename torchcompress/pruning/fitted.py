"""A cut whose survivors are fitted to what the model gave before."""

from collections.abc import Iterable
from typing import Any

from torch import nn

from torchcompress.core.inputs import Forward
from torchcompress.core.modules import shadow, unwrapped
from torchcompress.pruning.adapters import adapt_modules
from torchcompress.pruning.plan import PruningPlan
from torchcompress.reconstruction import resolve_consumers


def apply_fitted(
    plan: PruningPlan, model: nn.Module, calibration: Iterable[Any], forward: Forward | None = None
) -> nn.Module:
    """Returns the smaller model, its layers solved anew (see `resolve_consumers`).

    The reference is adapted like the smaller model, so that both call the same layers.

    Args:
        plan: What goes.
        model: The model before; left as it was.
        calibration: A few hundred unlabelled samples in batches.
        forward: How the models are called on a batch.

    Raises:
        CompressError: The plan does not fit, or calibration data is empty or not finite.
    """
    fitted, dense = plan.apply(model), shadow(unwrapped(model))
    adapt_modules(dense, plan.removed)
    resolve_consumers(dense, fitted, plan.removed, calibration, forward=forward)
    return fitted

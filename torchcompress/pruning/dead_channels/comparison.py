"""Comparing what a model and a changed copy compute."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from torchcompress.core.errors import TraceError
from torchcompress.core.inputs import Inputs, map_tensors
from torchcompress.graph.course import Course
from torchcompress.graph.record import Trace
from torchcompress.graph.replay import run_on_course
from torchcompress.pruning.proof import DOUBLE_TOLERANCE, TOLERANCE, compare_outputs

Change = Callable[[nn.Module], object]
"""Changes a model in place; tensors get new memory, since the model shares it with the original."""


def compare_changed(
    original: nn.Module, change: Change, x: Inputs, trace: Trace
) -> tuple[float, str | None]:
    """Compares a model with a changed copy on example inputs and on noise, small and large.

    In float32, and where that differs in float64, in which rounding stays small. A model that does
    not run in these is compared as it is.

    Args:
        original: The model; left as it was.
        change: What is done to the copy, once it has its type.
        x: Example inputs.
        trace: What a run of the original has shown.

    Returns:
        The largest difference over the largest output, and how the outputs differ or None.
    """
    worst = 0.0
    for scale in (0.0, 1.0, 10.0):
        inputs = _noise(x, scale) if scale else x
        try:
            difference, failure = _differ(original, change, inputs, trace, torch.float32)
            if failure is not None:
                difference, failure = _differ(original, change, inputs, trace, torch.float64)
        except TraceError:
            if scale:  # Noise may be outside of the model's domain.
                continue
            difference, failure = _differ(original, change, inputs, trace, None)
        if failure is not None:
            return difference, failure
        worst = max(worst, difference)
    return worst, None


def _differ(
    original: nn.Module, change: Change, inputs: Inputs, trace: Trace, dtype: torch.dtype | None
) -> tuple[float, str | None]:
    def cast(tensor: Tensor) -> Tensor:
        return tensor.to(dtype) if dtype and tensor.is_floating_point() else tensor

    own, changed = (trace.conditions.copy(original).to(dtype) for _ in range(2))
    change(changed)
    outputs = [
        run_on_course(model, map_tensors(cast, inputs), trace, Course(trace.decisions))
        for model in (own, changed)
    ]
    tolerance = DOUBLE_TOLERANCE if dtype == torch.float64 else TOLERANCE
    return compare_outputs(*outputs, tolerance=tolerance)


def _noise(x: Inputs, scale: float) -> Inputs:
    generator = torch.Generator().manual_seed(0)

    def noise(tensor: Tensor) -> Tensor:
        drawn = scale * torch.randn(tensor.shape, generator=generator)
        return drawn.to(tensor) if tensor.is_floating_point() else tensor

    return map_tensors(noise, x)

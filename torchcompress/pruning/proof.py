"""The trial: a pruned model must equal the original with the removed channels zeroed."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from torchcompress.core.errors import TraceError
from torchcompress.core.inputs import Inputs, map_tensors, tensors_in
from torchcompress.core.modules import undisturbed
from torchcompress.graph.replay import run_with_channels_zeroed
from torchcompress.graph.tracer import Trace, plain_kernels, run_model

TOLERANCE = 1e-4
"""Largest difference allowed, as a fraction of the largest output, in float32."""


@dataclass(frozen=True)
class Trial:
    """The outcome of a trial.

    Attributes:
        difference: Largest difference over the largest output; NaN where outputs do not compare.
        failure: What went wrong, or None.
        alive: Removed labels that carried anything but zeros in the original.
    """

    difference: float
    failure: str | None
    alive: frozenset[int]


def try_cut(
    model: nn.Module,
    x: Inputs,
    trace: Trace,
    removed: set[int],
    apply: Callable[[nn.Module], object],
) -> Trial:
    """Compares a cut copy with the original whose removed channels are zeroed at every consumer.

    Twice, in float32: on the example input, and on noise of its shape with the statistics and
    affine parameters of every batch norm randomised, so that nothing hides behind a zero.

    Args:
        model: The original; left as it was.
        x: Example inputs.
        trace: What the traced run has shown.
        removed: Representative labels of the channels that go.
        apply: Cuts a model in place.

    Raises:
        TraceError: The original takes another path than in the traced run.
    """
    worst, alive = 0.0, set[int]()
    original = copy.deepcopy(model).float()
    for inputs in (_single(x), None):
        if inputs is None:
            inputs = _noise(_single(x))
            _randomise_norms(original)
        expected, seen = run_with_channels_zeroed(original, inputs, trace, removed)
        alive |= seen
        pruned = copy.deepcopy(original)
        apply(pruned)
        try:
            with undisturbed(pruned), plain_kernels():
                found = run_model(pruned, inputs)
        except TraceError as error:
            return Trial(float("nan"), str(error.__cause__), frozenset(alive))
        difference, failure = compare_outputs(expected, found)
        if failure is not None:
            return Trial(difference, failure, frozenset(alive))
        worst = max(worst, difference)
    failure = _train_failure(original, _single(x), apply) if trace.unread else None
    return Trial(worst, failure, frozenset(alive))


def _train_failure(
    original: nn.Module, x: Inputs, apply: Callable[[nn.Module], object]
) -> str | None:
    """Returns how a cut copy fails in train mode where the original does not, or None.

    A branch that only runs in training is not traced, so its layers may meet other sizes.
    """
    pruned = copy.deepcopy(original)
    apply(pruned)
    try:
        expected = _run_in_training(original, x)
    except TraceError:
        return None
    try:
        found = _run_in_training(pruned, x)
    except TraceError as error:
        return f"in train mode: {error.__cause__}"
    shapes = [[(n, t.shape) for n, t in tensors_in(output)] for output in (expected, found)]
    return None if shapes[0] == shapes[1] else "in train mode: the output has another shape"


def _run_in_training(model: nn.Module, x: Inputs) -> Any:
    with torch.random.fork_rng(devices=[]), torch.no_grad(), plain_kernels():
        return run_model(copy.deepcopy(model).train(), x)


def compare_outputs(expected: Any, found: Any) -> tuple[float, str | None]:
    """Compares the outputs of two models, of any nested structure.

    Returns:
        The largest difference over the largest expected value, and what is wrong or None.
    """
    a, b = dict(tensors_in(expected)), dict(tensors_in(found))
    if a.keys() != b.keys():
        return float("nan"), f"the output holds {sorted(b)}, not {sorted(a)}"
    worst = 0.0
    for name, left in a.items():
        right, where = b[name], f"output {name}".rstrip()
        if left.shape != right.shape:
            shapes = f"{tuple(right.shape)}, not {tuple(left.shape)}"
            return float("nan"), f"{where} has the shape {shapes}"
        if left.numel() == 0:
            continue
        if not (left.is_floating_point() or left.is_complex()):
            if not torch.equal(left, right):
                return float("nan"), f"{where} differs"
            continue
        same = left == right
        finite = left.abs().masked_fill(~torch.isfinite(left), 0)
        scale = finite.max().clamp_min(torch.finfo(torch.float32).tiny)
        difference = float((left - right).abs().masked_fill(same, 0).max() / scale)
        if not difference <= TOLERANCE:
            return difference, f"{where} differs by {difference:.1e} of its largest value"
        worst = max(worst, difference)
    return worst, None


def _single(x: Inputs) -> Any:
    return map_tensors(lambda t: t.float() if t.is_floating_point() else t, x)


def _noise(x: Inputs) -> Any:
    generator = torch.Generator().manual_seed(0)

    def noise(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        return torch.randn(tensor.shape, generator=generator).to(tensor.device)

    return map_tensors(noise, x)


def _randomise_norms(model: nn.Module) -> None:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                for tensor, low, high in (
                    (module.weight, 0.5, 1.5),
                    (module.bias, -0.5, 0.5),
                    (module.running_mean, -0.5, 0.5),
                    (module.running_var, 0.5, 1.5),
                ):
                    if tensor is not None:
                        value = torch.rand(tensor.shape, generator=generator)
                        tensor.copy_(low + (high - low) * value)

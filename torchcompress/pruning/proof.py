"""The trial: a pruned model must equal the original with the removed channels zeroed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from torchcompress.core.errors import TraceError
from torchcompress.core.inputs import Inputs, map_tensors, tensors_in
from torchcompress.core.modules import shadow
from torchcompress.graph.course import Course
from torchcompress.graph.replay import run_on_course, run_with_channels_zeroed
from torchcompress.graph.tracer import Trace
from torchcompress.pruning.wake import awakened

TOLERANCE = 1e-4
"""Largest difference allowed, as a fraction of the largest output, in float32."""

Cut = Callable[[nn.Module], object]
"""Cuts a model in place."""


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


@dataclass(frozen=True)
class _Setting:
    """A model and the inputs that it runs on in a trial."""

    model: nn.Module
    inputs: Any
    trace: Trace


class Proof:
    """The trials of one model, in float32: what they share is made once.

    Each trial runs on the example input; then on noise of its shape, with nothing of the model
    left constant or at zero, so that nothing hides; then in train mode where only that takes some
    branch.

    Args:
        model: The original; left as it was.
        x: Example inputs.
        trace: What its traced run has shown.
    """

    def __init__(self, model: nn.Module, x: Inputs, trace: Trace) -> None:
        original, inputs = shadow(model).float(), _single(x)
        awake = awakened(original)
        self._settings = [
            _Setting(original, inputs, trace),
            _Setting(awake, _noise(inputs), trace),
        ]
        if trace.training is not None:
            self._settings.append(_Setting(awake, inputs, trace.training))

    def misfit(self, apply: Cut) -> str | None:
        """Returns how a cut model fails to run or gives outputs of other shapes, or None."""
        for setting in self._settings[:1] + self._settings[2:]:
            try:
                found, _ = _run_cut(setting, apply)
            except TraceError as error:
                return _told(setting, str(error.__cause__))
            shapes = {name: tuple(tensor.shape) for name, tensor in tensors_in(found)}
            for name, expected in setting.trace.outputs.items():
                if shapes.get(name) != expected:
                    what = f"output {name}".rstrip()
                    return _told(
                        setting, f"{what} has the shape {shapes.get(name)}, not {expected}"
                    )
        return None

    def trial(self, removed: set[int], apply: Cut) -> Trial:
        """Compares a cut copy with the original, channels zeroed at every consumer.

        Args:
            removed: Representative labels of the channels that go.
            apply: Makes the cut.

        Raises:
            TraceError: The original takes another path than in the traced run.
        """
        worst, alive = 0.0, set[int]()
        for setting in self._settings:
            try:
                found, basis = _run_cut(setting, apply)
            except TraceError as error:
                cause = _told(setting, str(error.__cause__))
                return Trial(float("nan"), cause, frozenset(alive))
            course = Course(setting.trace.decisions)
            output, seen = run_with_channels_zeroed(
                setting.model, setting.inputs, setting.trace, removed, course
            )
            alive |= seen
            difference, failure = compare_outputs(output, found)
            if failure is None and course.operands:
                more, failure = compare_outputs(course.operands, basis, "what is decided by")
                difference = max(difference, more)
            if failure is not None:
                return Trial(difference, _told(setting, failure), frozenset(alive))
            worst = max(worst, difference)
        return Trial(worst, None, frozenset(alive))


def _run_cut(setting: _Setting, apply: Cut) -> tuple[Any, dict[str, list[Tensor]]]:
    pruned, course = shadow(setting.model), Course(setting.trace.decisions)
    apply(pruned)
    return run_on_course(pruned, setting.inputs, setting.trace, course), course.operands


def _told(setting: _Setting, failure: str) -> str:
    return f"in train mode: {failure}" if setting.trace.conditions.training else failure


def compare_outputs(expected: Any, found: Any, what: str = "output") -> tuple[float, str | None]:
    """Compares the outputs of two models, of any nested structure.

    Args:
        expected: Of the one.
        found: Of the other.
        what: What they are called.

    Returns:
        The largest difference over the largest expected value, and what is wrong or None.
    """
    a, b = dict(tensors_in(expected)), dict(tensors_in(found))
    if a.keys() != b.keys():
        return float("nan"), f"the {what} holds {sorted(b)}, not {sorted(a)}"
    worst = 0.0
    for name, left in a.items():
        right, where = b[name], f"{what} {name}".rstrip()
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

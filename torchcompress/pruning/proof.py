"""The trial: a pruned model must equal the original with the removed channels zeroed."""

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from torchcompress.core.errors import TraceError
from torchcompress.core.inputs import Inputs, map_tensors, tensors_in
from torchcompress.core.modules import named_tensors
from torchcompress.graph.course import Course
from torchcompress.graph.record import Trace
from torchcompress.graph.replay import run_on_course, run_with_channels_zeroed
from torchcompress.pruning.wake import awakened, settled, settled_on_cut

TOLERANCE = 1e-4
"""Largest difference allowed, as a fraction of the largest output, in float32."""

DOUBLE_TOLERANCE = 1e-6
"""The same in float64."""

Cut = Callable[[nn.Module], object]
"""Cuts a model in place; tensors get new memory, since the model shares it with the original."""


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

    def and_also(self, other: "Trial | None") -> "Trial":
        """Returns the outcome of a trial that passed and of one that followed, if any."""
        if other is None:
            return self
        worst = max(self.difference, other.difference)
        return Trial(worst, other.failure, self.alive | other.alive)


@dataclass(frozen=True)
class _Setting:
    """A model and the inputs that it runs on in a trial."""

    model: nn.Module
    inputs: Any
    trace: Trace


class Proof:
    """The trials of one model: what they share is made once.

    Each trial runs on the example input; then on noise of its shape, with nothing of the model
    left constant or at zero, so that nothing hides; then in train mode where only that takes some
    branch. In float32, or as the model is where its code names another type.

    Args:
        model: The original; left as it was.
        x: Example inputs.
        trace: What its traced run has shown.
    """

    def __init__(self, model: nn.Module, x: Inputs, trace: Trace) -> None:
        original, inputs = _precise(model, x, trace)
        awake = awakened(original)
        self._example = _Setting(original, inputs, trace)
        self._training = trace.training and _Setting(awake, inputs, trace.training)
        settings = (
            _Setting(settled(awake, partial(_tried, x=x, trace=trace)), x, trace)
            for x in (_noise(inputs), inputs)
        )
        self._awake = [setting for setting in settings if _follows(setting)]

    def misfit(self, apply: Cut) -> str | None:
        """Returns how a cut model fails to run or gives outputs of other shapes, or None."""
        for setting in filter(None, (self._example, self._training)):
            try:
                found, *_ = _run_cut(setting, apply)
            except TraceError as error:
                return _told(setting, str(error.__cause__))
            shapes = {name: tuple(tensor.shape) for name, tensor in tensors_in(found)}
            for name, shape in setting.trace.outputs.items():
                if shapes.get(name) != shape:
                    failure = f"output {name}".rstrip() + f" has the shape {shapes.get(name)}"
                    return _told(setting, f"{failure}, not {shape}")
        return None

    def trial(self, removed: set[int], apply: Cut) -> Trial:
        """Compares a cut copy with the original, channels zeroed at every consumer.

        Args:
            removed: Representative labels of the channels that go.
            apply: Makes the cut.

        Raises:
            TraceError: The original takes another path than in the traced run, or gives nothing
                that could be compared.
        """
        trial = _outcome(self._example, removed, apply)
        if trial is None:
            raise TraceError(
                "the output is empty or not finite, so that no cut of the model can be proved",
                where=type(self._example.model).__name__,
                hint="give an example input that the model answers, or plan with prove=False",
            )
        for settings in (self._awake, [self._training] if self._training else []):
            if trial.failure is not None:
                break
            # Noise may be outside of the model's domain; then the example input has to do.
            more = (_outcome(setting, removed, apply) for setting in settings)
            trial = trial.and_also(next(filter(None, more), None))
        return trial


def _follows(setting: _Setting) -> bool:
    """Whether a model that decides on numbers takes the traced path in a setting of other ones."""
    trace = setting.trace
    if not trace.decisions:
        return True
    model, course = trace.conditions.copy(setting.model), Course(trace.decisions)
    try:
        run_with_channels_zeroed(model, setting.inputs, trace, set(), course)
    except TraceError:
        return False
    return True


def _outcome(setting: _Setting, removed: set[int], apply: Cut) -> Trial | None:
    """Returns the outcome of one comparison, or None where the original gives no numbers.

    A deep model with random weights may blow rounding up to any size. Numbers that differ are
    therefore compared again in float64, where what a wrong cut does stays as large as it is, and
    then with batch norms that are settled on what the cut leaves.
    """
    trial = _compare(setting, removed, apply, TOLERANCE)
    if trial is None or trial.failure is None or math.isnan(trial.difference):
        return trial
    model = setting.trace.conditions.copy(setting.model).double()
    inputs = map_tensors(lambda t: t.double() if t.is_floating_point() else t, setting.inputs)
    double = _Setting(model, inputs, setting.trace)
    try:
        again = _compare(double, removed, apply, DOUBLE_TOLERANCE)
        if again is not None and again.failure is not None:
            run = partial(_tried, x=inputs, trace=setting.trace)
            double = replace(double, model=settled_on_cut(model, apply, run))
            again = _compare(double, removed, apply, DOUBLE_TOLERANCE)
    except TraceError:  # The code names a type.
        return trial
    return trial if again is None or again.failure is not None else again


def _compare(setting: _Setting, removed: set[int], apply: Cut, tolerance: float) -> Trial | None:
    trace = setting.trace
    course = Course(trace.decisions)
    original = trace.conditions.copy(setting.model)
    try:
        found, basis, adapted = _run_cut(setting, apply)
    except TraceError as error:
        return Trial(float("nan"), _told(setting, str(error.__cause__)), frozenset())
    output, alive = run_with_channels_zeroed(original, setting.inputs, trace, removed, course)
    expected = [output, course.operands]
    if not _says(expected):
        return None
    tolerance = max(tolerance, 8 * course.rounding)
    difference, failure = compare_outputs(output, found, tolerance=tolerance)
    if failure is None and course.operands:
        own = {path: made for path, made in course.operands.items() if path not in adapted}
        more, failure = compare_outputs(own, basis, "basis of", tolerance)
        difference = max(difference, more)
    failure = None if failure is None else _told(setting, failure)
    return Trial(difference, failure, frozenset(alive))


def _run_cut(setting: _Setting, apply: Cut) -> tuple[Any, dict[str, Any], set[str]]:
    """Runs a cut copy.

    Returns:
        Its output, what its decisions were made on, and the modules that an adapter gave another
        class, whose decisions are their own.
    """
    trace, pruned = setting.trace, setting.trace.conditions.copy(setting.model)
    kinds = {path: type(module) for path, module in pruned.named_modules()}
    apply(pruned)
    adapted = {p for p, module in pruned.named_modules() if type(module) is not kinds[p]}
    course = Course({key: made for key, made in trace.decisions.items() if key[0] not in adapted})
    return run_on_course(pruned, setting.inputs, trace, course), course.operands, adapted


def _says(outputs: Any) -> bool:
    """Whether there is a tensor that is neither empty nor holds NaN."""
    return any(t.numel() and not t.isnan().any() for _, t in tensors_in(outputs))


def _told(setting: _Setting, failure: str) -> str:
    return f"in train mode: {failure}" if setting.trace.conditions.training else failure


def compare_outputs(
    expected: Any, found: Any, what: str = "output", tolerance: float = TOLERANCE
) -> tuple[float, str | None]:
    """Compares the outputs of two models, of any nested structure.

    Args:
        expected: Of the one.
        found: Of the other.
        what: What they are called.
        tolerance: Largest difference allowed, as a fraction of the largest output.

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
        same = (left == right) | (left.isnan() & right.isnan())
        finite = left.abs().masked_fill(~torch.isfinite(left), 0)
        scale = finite.max().clamp_min(torch.finfo(torch.float32).tiny)
        difference = float((left - right).abs().masked_fill(same, 0).max() / scale)
        if not difference <= tolerance:
            return difference, f"{where} differs by {difference:.1e} of its largest value"
        worst = max(worst, difference)
    return worst, None


def _precise(model: nn.Module, x: Inputs, trace: Trace) -> tuple[nn.Module, Any]:
    """Returns a model and inputs in float32, or as they are where they do not run in it."""
    single = map_tensors(lambda t: t.float() if t.is_floating_point() else t, x)
    tensors = [*named_tensors(model).values(), *(tensor for _, tensor in tensors_in(x))]
    original = trace.conditions.copy(model)
    if all(t.dtype == torch.float32 for t in tensors if t.is_floating_point()):
        return original, single
    try:
        run_on_course(original.float(), single, trace, Course(trace.decisions))
    except TraceError:  # The code names a type.
        return trace.conditions.copy(model), x
    return trace.conditions.copy(model).float(), single


def _tried(model: nn.Module, x: Inputs, trace: Trace) -> None:
    """Runs a model on inputs that may be outside of its domain."""
    with suppress(TraceError):
        run_on_course(model, x, trace, Course(trace.decisions))


def _noise(x: Inputs) -> Any:
    generator = torch.Generator().manual_seed(0)

    def noise(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        return torch.randn(tensor.shape, generator=generator).to(tensor)

    return map_tensors(noise, x)

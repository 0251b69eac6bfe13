"""Running the float program over calibration data, and what is learnt on the way."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from torchcompress.core.errors import CalibrationError, TraceError
from torchcompress.core.inputs import Forward, calibration_batches, call, tensors_in, to_device
from torchcompress.core.modules import undisturbed
from torchcompress.core.progress import progress
from torchcompress.quantization import interpreter
from torchcompress.quantization.observers import RangeObserver
from torchcompress.quantization.program import Op, Program
from torchcompress.quantization.ranges import moved_values
from torchcompress.quantization.value_types import infer_types

_TRACE_TOLERANCE = 1e-3
_SAMPLES = 4


class ProgramModule(nn.Module):
    """A float program as a module, so that a user's `forward` can call it."""

    def __init__(self, program: Program, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.program = program
        self.tensors = dict(tensors)
        self.types = infer_types(program)
        self.observe: interpreter.Observe | None = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Computes the program in float32."""
        inputs = bind_inputs(self.program, args, kwargs)
        return interpreter.run(
            self.program, self.tensors, inputs, types=self.types, observe=self.observe
        )


def bind_inputs(program: Program, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tensor]:
    """Returns a call's arguments in the order of a program's inputs.

    Raises:
        TypeError: An argument is missing, unknown or not a floating-point tensor.
    """
    if not kwargs and len(args) == len(program.inputs) and all(map(_is_float32, args)):
        return list(args)
    names = [name for name, _ in program.inputs]
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    if len(args) > len(names) or set(given) != set(names) or len(given) < len(args) + len(kwargs):
        raise TypeError(f"this model takes the inputs {', '.join(names)}")
    values = [given[name] for name in names]
    for name, value in zip(names, values, strict=True):
        if not isinstance(value, Tensor) or not value.is_floating_point():
            raise TypeError(f"the input {name!r} must be a floating-point tensor")
    return [value.float() for value in values]


def _is_float32(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype == torch.float32


@dataclass
class Batches:
    """Calibration data that can be gone through more than once.

    Args:
        loader: Batches; an iterator that can be used once is kept as a list.
        forward: How the model is called on a batch.
        device: Where the model is.
    """

    loader: Iterable[Any]
    forward: Forward | None
    device: torch.device

    def __post_init__(self) -> None:
        if isinstance(self.loader, Iterator):
            self.loader = list(self.loader)

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        for index, inputs in calibration_batches(self.loader, self.forward):
            yield index, to_device(inputs, self.device)

    def first(self) -> Any:
        """Returns the inputs of the first batch."""
        return next(iter(self))[1]

    def call(self, model: nn.Module, index: int, inputs: Any) -> Any:
        """Calls a model on the inputs of a batch.

        Raises:
            CalibrationError: The model does not take them.
        """
        try:
            return call(model, inputs) if self.forward is None else self.forward(model, inputs)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            raise CalibrationError(
                f"the model cannot run on it: {error}",
                where=f"calibration batch {index}",
                hint="look at the shape and type of the inputs, or pass forward=",
            ) from error

    def passing(self, label: str) -> Iterable[tuple[int, Any]]:
        """Returns the batches under a progress bar."""
        total = len(self.loader) if isinstance(self.loader, Sized) else None
        return progress(self, label, total=total, unit="batch")


def check_trace(model: nn.Module, program: ProgramModule, batches: Batches) -> None:
    """Makes sure that a program computes what its model computes, on the first batch.

    Raises:
        TraceError: It does not.
    """
    inputs = batches.first()
    with undisturbed(model):
        want = list(tensors_in(batches.call(model, 0, inputs)))
        got = list(tensors_in(batches.call(program, 0, inputs)))
    same = [name for name, _ in want] == [name for name, _ in got]
    for (_, a), (_, b) in zip(want, got, strict=False):
        same = same and a.shape == b.shape
        same = same and bool((a - b).abs().amax() <= _TRACE_TOLERANCE * a.abs().amax() + 1e-6)
    if not same:
        raise TraceError(
            "the traced program does not compute what the model computes",
            where=type(model).__name__,
            hint="the forward pass does something that a symbolic trace does not see",
        )


def observe_shapes(program: ProgramModule, batches: Batches) -> dict[str, tuple[int, ...]]:
    """Returns the shape of every tensor of a program on the first batch."""
    shapes: dict[str, tuple[int, ...]] = {}

    def observe(op: Op | None, value: str, made: Any) -> None:
        if isinstance(made, Tensor):
            shapes[value] = tuple(made.shape)

    _pass(program, [(0, batches.first())], batches, observe)
    return shapes


def observe_values(
    program: ProgramModule, batches: Batches, kinds: Collection[str]
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Runs a program on the first few samples of the first batch.

    Args:
        program: The float program.
        batches: The data.
        kinds: Of the operations whose outputs are kept.

    Returns:
        The inputs, and the kept outputs by value.
    """
    captured: list[Tensor] = []

    def capture(op: Op | None, value: str, made: Any) -> None:
        if op is None:
            captured.append(made)

    _pass(program, [(0, batches.first())], batches, capture)
    inputs = captured[: len(program.program.inputs)]
    if len({len(x) for x in inputs}) == 1:
        inputs = [x[:_SAMPLES] for x in inputs]
    kept: dict[str, Tensor] = {}

    def keep(op: Op | None, value: str, made: Any) -> None:
        if op is not None and op.kind in kinds:
            kept[value] = made

    with torch.no_grad():
        interpreter.run(program.program, program.tensors, inputs, types=program.types, observe=keep)
    return inputs, kept


def observe_ranges(
    program: ProgramModule, batches: Batches, classes: Mapping[str, str], histogram: bool
) -> tuple[dict[str, RangeObserver], dict[str, tuple[float, float]]]:
    """Runs the calibration data through a program.

    Args:
        program: The fused float program.
        batches: The data.
        classes: From a value to the class whose range it shares.
        histogram: Make a second pass for histograms.

    Returns:
        An observer for each class, and the smallest and largest value of each single value.

    Raises:
        CalibrationError: A value that is not finite (names layer and batch), or a layer that the
            data never reached.
    """
    single = {value: RangeObserver() for value in classes}
    names = _value_names(program.program)
    at = [0]

    def widen(op: Op | None, value: str, made: Any) -> None:
        if not isinstance(made, Tensor) or made.numel() == 0:
            return
        if not torch.isfinite(made).all():
            raise CalibrationError(
                "the output is not finite (NaN or infinity)",
                where=f"{names[value]}, calibration batch {at[0]}",
                hint="the model overflows on this batch, or its weights are damaged",
            )
        single[value].update(made)

    _pass(program, batches.passing("calibrate"), batches, widen, at)
    observers: dict[str, RangeObserver] = {}
    for value, own in single.items():
        if program.types[value] == "size":
            continue
        if not own.seen:
            raise CalibrationError(
                "calibration never ran this layer",
                where=names[value],
                hint="let forward= call the model, on batches that are not empty",
            )
        shared = observers.setdefault(classes[value], RangeObserver())
        shared.low, shared.high = min(shared.low, own.low), max(shared.high, own.high)
    if histogram:
        repeats = moved_values(program.program)

        def count(op: Op | None, value: str, made: Any) -> None:
            if isinstance(made, Tensor) and value not in repeats:
                observers[classes[value]].count(made)

        _pass(program, batches.passing("histograms"), batches, count)
    extents = {value: (own.low, own.high) for value, own in single.items() if own.seen}
    return observers, extents


def _pass(
    program: ProgramModule,
    items: Iterable[tuple[int, Any]],
    batches: Batches,
    observe: Callable[[Op | None, str, Any], None],
    at: list[int] | None = None,
) -> None:
    program.observe = observe
    try:
        with torch.inference_mode(False), torch.no_grad():
            for index, inputs in items:
                if at is not None:
                    at[0] = index
                batches.call(program, index, inputs)
    finally:
        program.observe = None


def _value_names(program: Program) -> dict[str, str]:
    names = {value: f"input {name}" for name, value in program.inputs}
    return {**names, **{op.output: op.name for op in program.ops}}

"""Running the float program over calibration data, and what is learnt on the way."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from torchcompress.core.errors import CalibrationError, TraceError
from torchcompress.core.inputs import (
    Forward,
    calibration_batches,
    call,
    map_tensors,
    tensors_in,
    to_device,
)
from torchcompress.core.progress import progress
from torchcompress.quantization import interpreter
from torchcompress.quantization.binding import bind_inputs
from torchcompress.quantization.operations import LAYERS
from torchcompress.quantization.program import Op, Program, result_values
from torchcompress.quantization.unchanged import unchanged
from torchcompress.quantization.value_types import infer_types

_TRACE_TOLERANCE = 1e-3


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


@contextmanager
def named_failures(index: int) -> Iterator[None]:
    """Names the batch on which a model fails.

    Raises:
        CalibrationError: It fails.
    """
    try:
        yield
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError) as error:
        raise CalibrationError(
            f"the model cannot run on it: {error}",
            where=f"calibration batch {index}",
            hint="look at the shape and type of the inputs, or pass forward=",
        ) from error


@dataclass
class Batches:
    """Calibration data that can be gone through more than once.

    Args:
        loader: Batches; an iterator that can be used once is kept as a list.
        forward: How the model is called on a batch.
        device: Where the model is.
        first_index: Which batch is looked at for shapes and tensors.

    Raises:
        CalibrationError: Nothing that yields batches.
    """

    loader: Iterable[Any]
    forward: Forward | None
    device: torch.device
    first_index: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        if not hasattr(self.loader, "__iter__") and not hasattr(self.loader, "__getitem__"):
            raise CalibrationError(
                f"{type(self.loader).__name__} does not yield batches",
                where="calibration",
                hint="pass a loader or a list of batches",
            )
        if isinstance(self.loader, Iterator):
            self.loader = list(self.loader)

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        for index, inputs in calibration_batches(self._loaded(), self.forward):
            yield index, to_device(inputs, self.device)

    def _loaded(self) -> Iterator[Any]:
        for index, batch in enumerate(self.loader):
            for _, tensor in tensors_in(batch):
                if tensor.is_meta:
                    raise CalibrationError(
                        "the input is on the meta device, which holds no numbers",
                        where=f"calibration batch {index}",
                        hint="give real samples",
                    )
            yield batch

    @cached_property
    def first(self) -> Any:
        """The inputs of the first batch, read once."""
        return next(inputs for index, inputs in self if index == self.first_index)

    def call(self, model: nn.Module, index: int, inputs: Any) -> Any:
        """Calls a model on a copy of the inputs of a batch: a model may write into them.

        Raises:
            CalibrationError: The model does not take them.
        """
        inputs = map_tensors(Tensor.clone, inputs)
        with named_failures(index):
            return call(model, inputs) if self.forward is None else self.forward(model, inputs)

    def release(self) -> None:
        """Forgets what was kept to run faster."""

    def passing(self, label: str) -> Iterable[tuple[int, Any]]:
        """Returns the batches under a progress bar."""
        total = len(self.loader) if isinstance(self.loader, Sized) else None
        return progress(self, label, total=total, unit="batch")


def first_outputs(model: nn.Module, batches: Batches) -> dict[str, Tensor]:
    """Returns the tensors that a model makes of the first batch, by path.

    Raises:
        CalibrationError: It does not take the batch, or the batch is empty.
    """
    with unchanged(model):
        outputs = dict(tensors_in(batches.call(model, batches.first_index, batches.first)))
    if outputs and not any(tensor.numel() for tensor in outputs.values()):
        raise CalibrationError(
            "the model makes nothing of it",
            where=f"calibration batch {batches.first_index}",
            hint="let every batch hold at least one sample",
        )
    return outputs


def check_trace(
    program: ProgramModule, want: Mapping[str, Tensor], batches: Batches, where: str
) -> dict[str, tuple[int, ...]]:
    """Makes sure that a program computes what its model computes, on the first batch.

    Args:
        program: The float program.
        want: The model's outputs.
        batches: The data.
        where: The model, for the error.

    Returns:
        The shape of every tensor of the program.

    Raises:
        CalibrationError: A value that is not finite.
        TraceError: Other outputs than the model's.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    names, finite = value_names(program.program), finite_values(program.program)

    def observe(op: Op | None, value: str, made: Any) -> None:
        if isinstance(made, Tensor):
            shapes[value] = tuple(made.shape)
            name = names[value]
            check_finite(made, name, batches.first_index, infinite=value not in finite)

    got = dict(
        tensors_in(pass_batches(program, [(batches.first_index, batches.first)], batches, observe))
    )
    if not shapes:
        raise CalibrationError(
            "calibration never ran the model",
            where=f"calibration batch {batches.first_index}",
            hint="let forward= call the model that it is given",
        )
    same = list(want) == list(got) and all(is_close(got[name], want[name]) for name in want)
    if not same:
        raise TraceError(
            "the traced program does not compute what the model computes",
            where=where,
            hint="the forward pass does something that a symbolic trace does not see",
        )
    return shapes


def is_close(a: Tensor, b: Tensor) -> bool:
    """Returns whether a traced program made the tensor `a` as a model made `b`."""
    if a.shape != b.shape or a.numel() == 0:
        return a.shape == b.shape
    if not b.is_floating_point():
        return torch.equal(a, b)
    same = (a == b) | (a.isnan() & b.isnan())
    largest = b.abs().masked_fill(~b.isfinite(), 0.0).amax()
    gaps = (a - b).abs().masked_fill(same, 0.0)
    return bool(gaps.amax() <= _TRACE_TOLERANCE * largest + 1e-6)


def finite_values(program: Program) -> set[str]:
    """Returns the values that may not hold infinity: inputs, what layers make, and the result.

    In between, a mask may make it, and a softmax end it.
    """
    found = {value for _, value in program.inputs} | set(result_values(program.result))
    return found | {op.output for op in program.ops if op.kind in LAYERS}


def check_finite(made: Tensor, name: str, batch: int, *, infinite: bool = False) -> None:
    """Refuses a value that is not finite.

    Args:
        made: The value.
        name: Of its layer.
        batch: Of the calibration data.
        infinite: It may hold infinity.

    Raises:
        CalibrationError: It holds NaN or infinity; names the layer and the batch.
    """
    if made.isnan().any() if infinite else not made.isfinite().all():
        raise CalibrationError(
            "the output is not finite (NaN or infinity)",
            where=f"{name}, calibration batch {batch}",
            hint="the model overflows on this batch, or its weights are damaged",
        )


def first_inputs(program: ProgramModule, batches: Batches) -> list[Tensor]:
    """Returns what the first batch gives to each input of a program."""
    inputs: list[Tensor] = []

    def capture(op: Op | None, value: str, made: Any) -> None:
        if op is None:
            inputs.append(made)

    pass_batches(program, [(batches.first_index, batches.first)], batches, capture)
    return inputs[: len(program.program.inputs)]


def pass_batches(
    program: ProgramModule,
    items: Iterable[tuple[int, Any]],
    batches: Batches,
    observe: Callable[[Op | None, str, Any], None],
    at: list[int] | None = None,
) -> Any:
    """Runs a program on batches and returns what the last call returned."""
    program.observe, outputs = observe, None
    try:
        with torch.inference_mode(False), torch.no_grad():
            for index, inputs in items:
                if at is not None:
                    at[0] = index
                outputs = batches.call(program, index, inputs)
    finally:
        program.observe = None
    return outputs


def value_names(program: Program) -> dict[str, str]:
    """Returns how each value of a program is called in messages."""
    names = {value: f"input {name}" for name, value in program.inputs}
    return {**names, **{op.output: op.name for op in program.ops}}

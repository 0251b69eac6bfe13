"""Calibration data at the inputs of a program, and how far an int8 draft is from float on it."""

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from torchcompress.core.inputs import tensors_in
from torchcompress.quantization import interpreter
from torchcompress.quantization.calibrate import Batches, ProgramModule, is_close, pass_batches
from torchcompress.quantization.emit import emit
from torchcompress.quantization.int8.selftest import native_works
from torchcompress.quantization.macs import samples_in
from torchcompress.quantization.program import Op
from torchcompress.quantization.quantize_part import Draft
from torchcompress.quantization.value_types import infer_types

_GOLDEN = 5**0.5 / 2 - 0.5
_HELD_OUT = 4
"""One call in so many judges, the others are learnt from."""

Inputs = list[Tensor]


@dataclass(frozen=True)
class Samples:
    """What the calls of a program were given.

    Args:
        fit: Calls to learn from.
        held: Calls to judge on; the same ones where there is only one.
        fit_wanted: The float outputs of each call to learn from.
        wanted: The float outputs of each held call.
    """

    fit: list[Inputs]
    held: list[Inputs]
    fit_wanted: list[list[Tensor]]
    wanted: list[list[Tensor]]

    @property
    def count(self) -> int:
        """Samples in all."""
        calls = self.fit if self.fit is self.held else self.fit + self.held
        return sum(samples_in(tuple(inputs)) for inputs in calls)

    @classmethod
    def of(cls, module: ProgramModule, batches: Batches, most: int) -> Self:
        """Runs the calibration data through a program and keeps what reaches it.

        Args:
            module: The float program.
            batches: The data.
            most: Bytes to keep, which one call may exceed. Of more data, calls are kept that are
                spread evenly over it.
        """
        kept = _Kept([value for _, value in module.program.inputs], most)
        pass_batches(module, batches.passing("samples"), batches, kept.see)
        calls = list(kept.calls.values())
        if len(calls) == 1:
            calls = _split(module, calls[0])
        held = calls[::_HELD_OUT] if len(calls) > 1 else calls
        fit = [inputs for n, inputs in enumerate(calls) if n % _HELD_OUT] or calls
        with torch.no_grad():
            fit_wanted, wanted = (
                [flat(_run(module, inputs)) for inputs in some] for some in (fit, held)
            )
        return cls(fit, held, fit_wanted, wanted)


class _Kept:
    """The calls of a program, as many as there is room for.

    The multiples of the golden ratio, modulo 1, are spread evenly however many there are. Calls
    whose multiple is small stay: so many of each stretch of the data, at no fixed distance, which
    calls of several forms in turn could be in step with.

    Args:
        inputs: Of the program.
        most: Bytes to keep; the last call that stays may exceed them.
    """

    def __init__(self, inputs: list[str], most: int) -> None:
        self.inputs, self.most = inputs, most
        self.calls: dict[int, Inputs] = {}
        self.bytes = 0
        self.seen = 0
        self.bound = 1.0

    def see(self, op: Op | None, value: str, made: Any) -> None:
        """Looks at a value; the inputs of a call come first, in order."""
        if op is not None:
            return
        if value == self.inputs[0]:
            self.seen += 1
            if _place(self.seen) < self.bound:
                self.calls[self.seen] = []
        if self.seen in self.calls:
            self.calls[self.seen].append(made.clone())
            self.bytes += made.nbytes
            if value == self.inputs[-1]:
                self._drop()

    def _drop(self) -> None:
        while self.bytes >= self.most:
            worst = max(self.calls, key=_place)
            size = sum(x.nbytes for x in self.calls[worst])
            if self.bytes - size < self.most:
                return
            del self.calls[worst]
            self.bytes -= size
            self.bound = _place(worst)


def _place(number: int) -> float:
    return number * _GOLDEN % 1


def _split(module: ProgramModule, inputs: Inputs) -> list[Inputs]:
    """Returns one call as several, where the program treats each sample alone."""
    counts = {len(x) if x.dim() else 0 for x in inputs}
    if len(counts) > 1 or min(counts) < _HELD_OUT:
        return [inputs]
    pieces = [list(piece) for piece in zip(*(x.chunk(_HELD_OUT) for x in inputs), strict=True)]
    try:
        with torch.no_grad():
            whole = flat(_run(module, inputs))
            parts = [flat(_run(module, piece)) for piece in pieces]
    except (RuntimeError, ValueError):  # It knows one batch size only.
        return [inputs]
    joined = [torch.cat(outputs) for outputs in zip(*parts, strict=True)]
    same = all(map(is_close, joined, whole))
    return pieces if same else [inputs]


def _run(module: ProgramModule, inputs: Inputs) -> Any:
    return interpreter.run(module.program, module.tensors, inputs, types=module.types)


def flat(result: Any) -> list[Tensor]:
    """Returns the tensors of a program's result, in order."""
    return [tensor for _, tensor in tensors_in(result)]


def output_noise(draft: Draft, samples: Samples) -> float:
    """Returns the noise of a draft's outputs, relative to the signal.

    That is the squared error of each output of the program, summed over the held samples and
    divided by the sum of its squares, averaged over the outputs.

    Args:
        draft: What to run in int8.
        samples: With the wanted outputs.
    """
    model, _ = draft.int8_model()
    types, tensors = infer_types(model.program), model.tensors
    native = samples.held[0][0].device.type == "cpu" and native_works()
    functions: dict[Any, Any] = {}
    noise = [0.0] * len(samples.wanted[0])
    signal = [0.0] * len(noise)
    with torch.no_grad():
        for inputs, wanted in zip(samples.held, samples.wanted, strict=True):
            shapes = tuple(tuple(x.shape) for x in inputs)
            if shapes not in functions:
                functions[shapes] = emit(model.program, types, tensors, shapes, native)
            for at, (got, want) in enumerate(
                zip(flat(functions[shapes](*inputs)), wanted, strict=True)
            ):
                noise[at] += (got.double() - want.double()).square().sum().item()
                signal[at] += want.double().square().sum().item()
    ratios = [n / s if s > 0 else n for n, s in zip(noise, signal, strict=True)]
    return sum(ratios) / len(ratios)

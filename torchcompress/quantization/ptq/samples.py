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
from torchcompress.quantization.program import Op
from torchcompress.quantization.quantize_part import Draft
from torchcompress.quantization.value_types import infer_types

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
        """Samples in all, by the first dimension of the first input."""
        calls = self.fit if self.fit is self.held else self.fit + self.held
        return sum(len(inputs[0]) for inputs in calls)

    @classmethod
    def of(cls, module: ProgramModule, batches: Batches, most: int) -> Self:
        """Runs the calibration data up to a program and keeps what reaches it.

        Args:
            module: The float program.
            batches: The data.
            most: Bytes to keep; further calls are left out.
        """
        calls: list[Inputs] = []
        arity, kept = len(module.program.inputs), 0

        def capture(op: Op | None, value: str, made: Any) -> None:
            nonlocal kept
            if op is None and kept <= most:
                if not calls or len(calls[-1]) == arity:
                    calls.append([])
                calls[-1].append(made.clone())
                kept += made.nbytes

        pass_batches(module, batches.passing("samples"), batches, capture)
        if len(calls) == 1:
            calls = _split(module, calls[0])
        held = calls[::_HELD_OUT] if len(calls) > 1 else calls
        fit = [inputs for n, inputs in enumerate(calls) if n % _HELD_OUT] or calls
        with torch.no_grad():
            fit_wanted, wanted = (
                [flat(_run(module, inputs)) for inputs in some] for some in (fit, held)
            )
        return cls(fit, held, fit_wanted, wanted)


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

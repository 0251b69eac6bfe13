"""How much noise quantization adds at each layer."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from torchcompress.quantization import interpreter
from torchcompress.quantization.operations import Tensors, dequantizer
from torchcompress.quantization.program import Program, QParams
from torchcompress.quantization.value_types import infer_types


def sqnr(signal: Tensor, noisy: Tensor) -> float | None:
    """Returns the signal-to-quantization-noise ratio in dB; None where either is zero.

    Args:
        signal: The float values.
        noisy: The quantized ones, of the same shape.
    """
    power = signal.double().square().sum().item()
    noise = (noisy.double() - signal.double()).square().sum().item()
    return 10 * math.log10(power / noise) if power > 0 and noise > 0 else None


def measure_sqnr(
    signals: Iterable[tuple[str, Tensor]],
    program: Program,
    tensors: Tensors,
    inputs: Sequence[Tensor],
    bind: interpreter.Bind,
) -> dict[str, float | None]:
    """Runs an int8 program beside the float one and compares values as they are made.

    Both are held only as long as they are read, so that a whole batch fits.

    Args:
        signals: The float values on that batch, with the values of `program` that stand for
            them, in the order of `program`.
        program: The int8 program.
        tensors: Of its layers.
        inputs: One batch.
        bind: The kernels to run on.

    Returns:
        The ratio in dB, by value. Noise from the layers before counts too.
    """
    types = infer_types(program)
    steps = interpreter.steps(program, tensors, inputs, types=types, bind=bind)
    found: dict[str, float | None] = {}
    with torch.no_grad():
        for value, signal in signals:
            made = next(made for _, name, made in steps if name == value)
            grid = types[value]
            if isinstance(grid, QParams):
                made = dequantizer(grid.scale, grid.zero_point)(made)
            found[value] = sqnr(signal, made)
    return found

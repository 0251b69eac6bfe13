"""How much noise quantization adds at each layer."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from torchcompress.quantization import interpreter
from torchcompress.quantization.operations import Tensors, dequantizer
from torchcompress.quantization.program import Op, Program, QParams
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
    program: Program,
    tensors: Tensors,
    inputs: Sequence[Tensor],
    signals: Mapping[str, Tensor],
    bind: interpreter.Bind,
) -> dict[str, float | None]:
    """Runs an int8 program and compares its values with the float ones.

    Args:
        program: The int8 program.
        tensors: Of its layers.
        inputs: One batch.
        signals: The float values on that batch, by value of `program`.
        bind: The kernels to run on.

    Returns:
        The ratio in dB, by value. Noise from the layers before counts too.
    """
    types = infer_types(program)
    found: dict[str, float | None] = {}

    def observe(op: Op | None, value: str, made: Any) -> None:
        if value in signals:
            grid = types[value]
            if isinstance(grid, QParams):
                made = dequantizer(grid.scale, grid.zero_point)(made)
            found[value] = sqnr(signals[value], made)

    with torch.no_grad():
        interpreter.run(program, tensors, inputs, types=types, bind=bind, observe=observe)
    return found

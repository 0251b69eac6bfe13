"""Quantizing a model that is one program, for tests that look into it."""

from collections.abc import Iterable
from typing import Any

from torch import nn

from torchcompress.quantization import Int8Model, QuantizationConfig, quantize


def quantize_whole(
    model: nn.Module, calibration: Iterable[Any], config: QuantizationConfig | str | None = None
) -> Int8Model:
    made = quantize(model, calibration, config)
    assert isinstance(made, Int8Model)
    return made

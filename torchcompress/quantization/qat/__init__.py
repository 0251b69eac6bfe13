"""Quantization-aware training: fake quantization, and int8 that computes the same."""

from torchcompress.quantization.qat.config import QATConfig
from torchcompress.quantization.qat.convert import convert
from torchcompress.quantization.qat.prepare import prepare_qat
from torchcompress.quantization.qat.schedule import FreezeSchedule, freeze_norms, freeze_ranges

__all__ = [
    "FreezeSchedule",
    "QATConfig",
    "convert",
    "freeze_norms",
    "freeze_ranges",
    "prepare_qat",
]

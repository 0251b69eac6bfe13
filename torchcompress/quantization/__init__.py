"""Post-training quantization to int8 that runs on integers."""

from torchcompress.quantization.config import QuantizationConfig
from torchcompress.quantization.latency_table import int8_latency_table
from torchcompress.quantization.model import Int8Model
from torchcompress.quantization.partly import PartlyInt8Model
from torchcompress.quantization.plan import QuantizationPlan
from torchcompress.quantization.quantize import check_quantizable, quantize
from torchcompress.quantization.sensitivity import LayerSensitivity, Sensitivity, sensitivity

__all__ = [
    "Int8Model",
    "PartlyInt8Model",
    "QuantizationConfig",
    "QuantizationPlan",
    "check_quantizable",
    "int8_latency_table",
    "LayerSensitivity",
    "Sensitivity",
    "quantize",
    "sensitivity",
]

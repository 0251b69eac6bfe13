"""What each ONNX runtime wants of a quantized file."""

from dataclasses import dataclass

from torchcompress.core.errors import CompressError, did_you_mean


@dataclass(frozen=True, kw_only=True)
class Preset:
    """How quantized values are written for one runtime.

    Args:
        name: Of the preset.
        symmetric: Activations are int8 and every zero point is 0.
        integer_values: Values that only move stay integers between operations. Otherwise each is
            written as QuantizeLinear and DequantizeLinear, and what moves is float.
        closed: A convolution is an integer one only where a QuantizeLinear follows it at once, so
            that what it is fused with here stands behind a grid of its own.
        integer_bias: Biases are int32 on the grid of the accumulator; otherwise float32.
    """

    name: str
    symmetric: bool = False
    integer_values: bool = False
    closed: bool = False
    integer_bias: bool = False


PRESETS = {
    preset.name: preset
    for preset in (
        Preset(name="onnxruntime", integer_values=True, closed=True, integer_bias=True),
        Preset(name="openvino"),
        Preset(name="tensorrt", symmetric=True),
    )
}


def find_preset(name: str) -> Preset:
    """Returns a preset by name.

    Raises:
        CompressError: An unknown name.
    """
    if name not in PRESETS:
        raise CompressError(
            f"{name!r} is not an ONNX preset", where="preset", hint=did_you_mean(name, PRESETS)
        )
    return PRESETS[name]

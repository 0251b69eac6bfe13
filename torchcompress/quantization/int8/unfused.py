"""Native convolutions of lines and volumes, whose kernels have no post-ops."""

from dataclasses import replace

from torch import Tensor

from torchcompress.quantization.int8.convolution import Window, convolution
from torchcompress.quantization.int8.layer import Layer, clamps_alike
from torchcompress.quantization.operations import Function, activate, quantizer


def unfused_convolution(layer: Layer, window: Window, shape: tuple[int, ...]) -> Function:
    """Returns a convolution of any rank, and after it its activation.

    Args:
        layer: Its constants.
        window: Its geometry.
        shape: Of the input.
    """
    out, name = layer.out, layer.activation
    bare = replace(layer, activation=None)
    if name is None or (out is not None and clamps_alike(out, name)):
        return convolution(bare, window, shape)
    if out is not None and name in ("relu", "relu6"):
        # Rounding keeps the order, so that clamping may as well come after it.
        top = 255 if name == "relu" else min(out.zero_point + round(6 / out.scale), 255)
        low, run = out.zero_point, convolution(bare, window, shape)
        return lambda x: run(x).clamp_(low, top)
    real = convolution(replace(bare, out=None), window, shape)
    if out is None:
        return lambda x: activate(real(x), name)
    to_grid = quantizer(out.scale, out.zero_point)

    def run_and_round(x: Tensor) -> Tensor:
        return to_grid(activate(real(x), name))

    return run_and_round

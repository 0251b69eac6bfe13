"""Padding that oneDNN gets wrong, made by hand."""

from torch.nn import functional as F

from torchcompress.quantization.int8.convolution import Window
from torchcompress.quantization.operations import Function


def some_window_misses(window: Window, kernel: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Returns whether some output pixel sees nothing but padding.

    oneDNN then reads beyond its buffers (3.12: garbage, or a crash).

    Args:
        window: The geometry of a convolution.
        kernel: Height and width of its weight.
        shape: Of its input, `[batch, channels, height, width]`.
    """
    axes = zip(shape[2:], kernel, window.stride, window.padding, window.dilation, strict=True)
    for size, taps, stride, padding, dilation in axes:
        extent = dilation * (taps - 1) + 1
        for start in range(-padding, size + padding - extent + 1, stride):
            if not any(0 <= start + tap * dilation < size for tap in range(taps)):
                return True
    return False


def padded_shape(window: Window, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the shape of an input after its padding."""
    (top, left), (batch, channels, height, width) = window.padding, shape
    return batch, channels, height + 2 * top, width + 2 * left


def padded_first(run: Function, window: Window, zero_point: int) -> Function:
    """Returns a convolution that pads its input itself.

    Args:
        run: The same convolution without padding.
        window: The geometry with padding.
        zero_point: The integer that stands for 0 in the input.
    """
    top, left = window.padding
    edges = (left, left, top, top)
    return lambda x, *residual: run(F.pad(x, edges, value=zero_point), *residual)

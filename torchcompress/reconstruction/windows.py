"""What each output position of a convolution reads, for any number of dimensions."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


def windows(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """Returns the window of every output position; one row a position.

    Args:
        x: Inputs (samples, channels, *space), padded already.
        kernel: Kernel size by dimension.
        stride: Step by dimension.
        dilation: Spacing of the kernel by dimension.
        groups: Groups of input channels.

    Returns:
        (groups, samples * positions, kernel positions * channels of a group); the channel is the
        innermost index of a row.
    """
    x = x.contiguous()
    samples, channels, *space = x.shape
    outer, inner, *steps = x.stride()
    out = [
        (n - d * (k - 1) - 1) // s + 1
        for n, k, s, d in zip(space, kernel, stride, dilation, strict=True)
    ]
    width = channels // groups
    view = x.as_strided(
        (groups, samples, *out, *kernel, width),
        (
            width * inner,
            outer,
            *(a * s for a, s in zip(steps, stride, strict=True)),
            *(a * d for a, d in zip(steps, dilation, strict=True)),
            inner,
        ),
        x.storage_offset(),
    )
    size = width
    for k in kernel:
        size *= k
    return view.reshape(groups, -1, size)


def spread(x: Tensor, stride: Sequence[int]) -> Tensor:
    """Returns inputs with `stride - 1` zeros between neighbors, as a transposed convolution reads.

    Args:
        x: (samples, channels, *space).
        stride: Stride of the transposed convolution by dimension.
    """
    space = [(n - 1) * s + 1 for n, s in zip(x.shape[2:], stride, strict=True)]
    wide = x.new_zeros(*x.shape[:2], *space)
    wide[(..., *(slice(None, None, s) for s in stride))] = x
    return wide


def padded(x: Tensor, sides: Sequence[int], mode: str) -> Tensor:
    """Returns padded inputs; negative sides crop.

    Args:
        x: (samples, channels, *space).
        sides: Before and after, the last dimension first.
        mode: As of `torch.nn.Conv2d`: zeros, reflect, replicate or circular.
    """
    if not any(sides):
        return x
    return F.pad(x, list(sides), mode="constant" if mode == "zeros" else mode)


def output_rows(values: Tensor, groups: int) -> Tensor:
    """Returns outputs (samples, channels, *space) as (groups, samples * positions, channels)."""
    rows = values.movedim(1, -1).flatten(0, -2)
    return rows.unflatten(1, (groups, -1)).transpose(0, 1)

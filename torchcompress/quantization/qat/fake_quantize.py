"""Fake quantization: onto the int8 grids and back to float32, with gradients."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from torchcompress.quantization.operations import grid_offset
from torchcompress.quantization.program import QParams
from torchcompress.quantization.sources import scale_outputs

_LARGEST = 127
_SMALLEST = torch.finfo(torch.float32).tiny
_ROUNDING = float(grid_offset(0))


def fake_quantize(x: Tensor, grid: QParams, *, rectified: bool = False) -> Tensor:
    """Rounds activations to a uint8 grid, as the int8 program does, and returns them in float32.

    The gradient is that of the identity within the range and 0 outside (the straight-through
    estimator; Bengio et al., 2013).

    Args:
        x: Any floating-point tensor.
        grid: The grid.
        rectified: Pass `x` through ReLU first. Costs nothing where the grid begins at 0.
    """
    if rectified and grid.zero_point:
        x, rectified = torch.relu(x), False
    return _FakeQuantize.apply(x, grid, rectified)  # pyright: ignore[reportReturnType]


def learned_fake_quantize(x: Tensor, grid: QParams, scale: Tensor) -> Tensor:
    """Rounds activations as `fake_quantize`, with a gradient for the step too.

    That is LSQ's (Esser et al., 2020), times its `1 / sqrt(features * 255)`.

    Args:
        x: Any floating-point tensor, samples first.
        grid: The grid.
        scale: Its step as a parameter, of no dimensions.
    """
    return _LearnedFakeQuantize.apply(x, scale, grid)  # pyright: ignore[reportReturnType]


def straight_through(smooth: Tensor, rounded: Tensor) -> Tensor:
    """Returns `rounded`, with the gradient going to `smooth` as it is."""
    return _StraightThrough.apply(smooth, rounded)  # pyright: ignore[reportReturnType]


def learned_weight(
    smooth: Tensor, integers: Tensor, scale: Tensor, steps: Tensor, transposed_groups: int
) -> Tensor:
    """Returns an int8 weight in float32, with gradients for the weight and for its steps.

    They are LSQ's, the latter times `1 / sqrt(weights of the channel * 127)`. Each step is a
    factor of the channel's largest weight over 127, whose own gradient is left out.

    Args:
        smooth: The folded weight in float32.
        integers: It on its grid, as whole numbers.
        scale: Step of each output channel, `[channels]`.
        steps: The factors as a parameter, `[channels]`.
        transposed_groups: As in `Source`.
    """
    arguments = (smooth, steps, integers, scale, transposed_groups)
    return _LearnedWeight.apply(*arguments)  # pyright: ignore[reportReturnType]


def rounded_weight(weight: Tensor, steps: Tensor | None) -> tuple[Tensor, Tensor]:
    """Rounds a weight whose norm follows its batches, in float32.

    int8 folds the norm first, in float64; that is what `int8_layer` is for.

    Args:
        weight: Output channels first.
        steps: Factor of each channel's step.

    Returns:
        Whole numbers in float32, and the step of each output channel.
    """
    largest = weight.abs().amax(tuple(range(1, weight.dim()))) / _LARGEST
    scale = torch.where(largest < _SMALLEST, 1.0, largest * (1 if steps is None else steps))
    integers = scale_outputs(weight, 1 / scale, 0).round_().clamp_(-_LARGEST, _LARGEST)
    return integers, scale


def dequantized(integers: Tensor, scale: Tensor, transposed_groups: int) -> Tensor:
    """Returns an int8 weight in float32; args are those of `learned_weight`."""
    return scale_outputs(integers.float(), scale, transposed_groups)


class _FakeQuantize(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, grid: QParams, rectified: bool) -> Tensor:
        x = x.float()
        ctx.save_for_backward(x)
        # Half a step beyond the ends still rounds to them.
        ctx.low = 0.0 if rectified else (-0.5 - grid.zero_point) * grid.scale
        ctx.high = (255.5 - grid.zero_point) * grid.scale
        return _rounded(x, grid)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(grads[0], x, ctx.low, ctx.high), None, None


class _LearnedFakeQuantize(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, grid: QParams) -> Tensor:
        x = x.float()
        ctx.save_for_backward(x)
        ctx.grid = grid
        return _rounded(x, grid)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        (x,), grid = ctx.saved_tensors, ctx.grid
        at = _positions(x, grid)
        inside = (at >= 0) & (at <= 255)
        slope = at.clamp(0, 255).round_() - torch.where(inside, at, float(grid.zero_point))
        factor = (x[0].numel() * 255) ** -0.5
        return grads[0] * inside, (grads[0] * slope).sum() * factor, None


class _StraightThrough(Function):
    @staticmethod
    def forward(ctx: Any, smooth: Tensor, rounded: Tensor) -> Tensor:
        return rounded.view_as(rounded)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


class _LearnedWeight(Function):
    @staticmethod
    def forward(
        ctx: Any,
        smooth: Tensor,
        steps: Tensor,
        integers: Tensor,
        scale: Tensor,
        transposed_groups: int,
    ) -> Tensor:
        ctx.save_for_backward(smooth, steps, integers, scale)
        ctx.transposed_groups = transposed_groups
        return dequantized(integers, scale, transposed_groups)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        smooth, steps, integers, scale = ctx.saved_tensors
        groups = ctx.transposed_groups
        at = scale_outputs(smooth, 1 / scale, groups)
        inside = at.abs() <= _LARGEST
        slope = grads[0] * (integers - torch.where(inside, at, 0.0))
        slope = _by_output(slope, groups)
        factor = (slope.shape[1] * _LARGEST) ** -0.5
        return grads[0] * inside, slope.sum(1) * (scale / steps) * factor, None, None, None


def _rounded(x: Tensor, grid: QParams) -> Tensor:
    """Returns values as the int8 program rounds them."""
    y = torch.add(grid_offset(grid.zero_point), x, alpha=1 / grid.scale)
    y.clamp_(_ROUNDING, _ROUNDING + 255)
    return y.sub_(_ROUNDING + grid.zero_point).mul_(grid.scale)


def _positions(x: Tensor, grid: QParams) -> Tensor:
    """Returns where values stand on a grid, before rounding."""
    return torch.add(
        torch.tensor(float(grid.zero_point), dtype=torch.float32), x, alpha=1 / grid.scale
    )


def _by_output(weight: Tensor, transposed_groups: int) -> Tensor:
    """Returns a weight as a row for each output channel."""
    if not transposed_groups:
        return weight.flatten(1)
    return weight.unflatten(0, (transposed_groups, -1)).transpose(1, 2).flatten(0, 1).flatten(1)

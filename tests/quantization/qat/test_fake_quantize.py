"""Fake quantization against the int8 program's own rounding, and gradients in closed form."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from torchcompress.quantization.int8.weights import quantize_weight
from torchcompress.quantization.operations import dequantizer, quantizer
from torchcompress.quantization.program import QParams
from torchcompress.quantization.qat.fake_quantize import (
    dequantized,
    fake_quantize,
    learned_fake_quantize,
    learned_weight,
    straight_through,
)

GRIDS = [QParams(0.03125, 0), QParams(0.0123456789, 117), QParams(1.0, 255)]


def gradient(function: Callable[[Tensor], Tensor], x: Tensor, by: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    function(x).backward(by)
    assert x.grad is not None
    return x.grad


@pytest.mark.parametrize("grid", GRIDS)
def test_rounds_as_the_int8_program_does(grid: QParams) -> None:
    # Exact halves too: they go to the even neighbour.
    x = torch.cat([torch.randn(1000) * 4, torch.arange(-4, 4, 0.5) * grid.scale])
    want = dequantizer(grid.scale, grid.zero_point)(quantizer(grid.scale, grid.zero_point)(x))
    assert torch.equal(fake_quantize(x, grid), want)
    assert torch.equal(learned_fake_quantize(x, grid, torch.tensor(grid.scale)), want)
    assert torch.equal(fake_quantize(x.bfloat16(), grid), fake_quantize(x.bfloat16().float(), grid))


@pytest.mark.parametrize("grid", GRIDS)
def test_the_gradient_passes_within_the_range(grid: QParams) -> None:
    x, by = torch.randn(1000) * 4, torch.randn(1000)
    at = x / grid.scale + grid.zero_point
    inside = (at > -0.5) & (at < 255.5)
    assert 0 < inside.sum() < len(x)
    assert torch.equal(gradient(lambda v: fake_quantize(v, grid), x, by), by * inside)


@pytest.mark.parametrize("grid", GRIDS)
def test_rectified_is_relu_first(grid: QParams) -> None:
    x, by = torch.randn(1000) * 4, torch.randn(1000)
    got = fake_quantize(x, grid, rectified=True)
    assert torch.equal(got, fake_quantize(torch.relu(x), grid))
    want = gradient(lambda v: fake_quantize(torch.relu(v), grid), x, by)
    assert torch.equal(gradient(lambda v: fake_quantize(v, grid, rectified=True), x, by), want)


def test_learned_steps_of_activations_against_finite_differences() -> None:
    """With the rounding offset held still the function is smooth, and LSQ its exact derivative."""
    grid = QParams(0.05, 40)
    x, by = torch.randn(4, 30, dtype=torch.float64) * 5, torch.randn(4, 30, dtype=torch.float64)
    offset = (x / grid.scale).round() - x / grid.scale

    def smooth(scale: float) -> Tensor:
        at = (x / scale).clamp(-grid.zero_point, 255 - grid.zero_point)
        inside = at == x / scale
        return ((at + offset * inside) * scale * by).sum()

    scale = torch.tensor(grid.scale, requires_grad=True)
    learned_fake_quantize(x.float(), grid, scale).backward(by.float())
    assert scale.grad is not None
    slope = (smooth(grid.scale + 1e-7) - smooth(grid.scale - 1e-7)) / 2e-7
    torch.testing.assert_close(scale.grad.double(), slope * (30 * 255) ** -0.5, rtol=1e-4, atol=0)
    # And the values themselves: the identity within, nothing outside.
    at = x / grid.scale + grid.zero_point
    got = gradient(lambda v: learned_fake_quantize(v, grid, scale.detach()), x.float(), by.float())
    assert torch.equal(got, by.float() * ((at >= 0) & (at <= 255)))


@pytest.mark.parametrize("groups", [0, 2])
def test_learned_steps_of_weights_against_finite_differences(groups: int) -> None:
    shape = (4, 3, 2, 2)
    channels = 3 * groups if groups else 4
    weight, by = torch.randn(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)
    steps = torch.empty(channels, dtype=torch.float64).uniform_(0.3, 1.2)

    def spread(values: Tensor) -> Tensor:
        """Returns a number for each output channel in the weight's shape."""
        if not groups:
            return values.view(-1, 1, 1, 1).expand(shape)
        return values.view(groups, 1, 3).expand(groups, 2, 3).reshape(4, 3, 1, 1).expand(shape)

    rows = weight.abs().amax((1, 2, 3)) if not groups else None
    if rows is None:
        rows = weight.abs().unflatten(0, (groups, 2)).amax((1, 3, 4)).flatten()
    scale = rows * steps / 127
    integers = (weight / spread(scale)).round().clamp(-127, 127)
    offset = integers - weight / spread(scale)

    def smooth(steps: Tensor) -> Tensor:
        step = spread(rows * steps / 127)
        at = (weight / step).clamp(-127, 127)
        inside = (weight / spread(scale)).abs() <= 127
        return ((at + offset * inside) * step * by).sum()

    parameter = steps.float().requires_grad_()
    arguments = (integers.to(torch.int8), scale.float(), parameter, groups)
    learned_weight(weight.float(), *arguments).backward(by.float())
    assert parameter.grad is not None
    (slope,) = torch.autograd.grad(smooth(leaf := steps.clone().requires_grad_()), leaf)
    each = weight.numel() // channels
    want = slope * (each * 127) ** -0.5
    torch.testing.assert_close(parameter.grad.double(), want, rtol=1e-3, atol=1e-4)
    clipped = (weight / spread(scale)).abs() > 127
    assert clipped.any()
    got = gradient(lambda w: learned_weight(w, *arguments), weight.float(), by.float())
    assert torch.equal(got, by.float() * ~clipped)


def test_straight_through_weights_are_the_int8_ones() -> None:
    weight = torch.randn(5, 4, 3, 3)
    integers, scale, _ = quantize_weight(weight.double(), torch.zeros(5), 1.0)
    rounded = dequantized(integers, scale, 0)
    by = torch.randn_like(weight)
    assert torch.equal(straight_through(weight, rounded), rounded)
    assert torch.equal(gradient(lambda w: straight_through(w, rounded), weight, by), by)
    assert (rounded - weight).abs().amax() <= scale.max() / 2 * (1 + 1e-5)

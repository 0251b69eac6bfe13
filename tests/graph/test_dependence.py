from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from torchcompress.graph.dependence import Dependence

generator = torch.Generator().manual_seed(0)


def marks(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Returns which elements of a result are marked."""
    with torch.no_grad(), (seen := Dependence([x])):
        return seen.of(function(x)).clone()


def moves(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Returns which elements of a result differ for other inputs, by trying a few."""
    results = [function(x * scale + shift) for scale, shift in ((1, 0), (-1, 3), (5, 0.3))]
    return (results[0] != results[1]) | (results[0] != results[2])


dead = torch.randn(6, 4, 3, 3, generator=generator)
dead[1] = dead[4] = 0
bias = torch.randn(6, generator=generator)
grouped = torch.randn(6, 2, 3, 3, generator=generator)
grouped[5] = 0
half = torch.tensor([1.0, 0, 2, 0]).view(1, 4, 1, 1)


def in_place(x: Tensor) -> Tensor:
    out = torch.zeros_like(x)
    out[:, 1:3] = (x * half)[:, 1:3]
    return out.add_(1).relu_()


def rows(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)[:, None]


OPERATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "convolution": lambda x: F.conv2d(x, dead, bias, padding=1),
    "strided": lambda x: F.conv2d(x, dead, bias, stride=2, dilation=1),
    "grouped": lambda x: F.conv2d(x, grouped, bias, groups=2),
    "transposed": lambda x: F.conv_transpose2d(x, dead.transpose(0, 1)),
    "linear": lambda x: F.linear(x.flatten(1), torch.eye(9, 4 * 36) * half.view(4).repeat(36)),
    "product": lambda x: x * half + 3,
    "gain of zero": lambda x: F.batch_norm(x, bias[:4], bias[:4].abs(), half.view(4), bias[:4]),
    "concatenated": lambda x: torch.cat([x * half, torch.ones_like(x)], 1).flip(1),
    "pooled": lambda x: F.max_pool2d(F.avg_pool2d(x * half, 2), 3, 1, 1),
    "resized": lambda x: F.interpolate(x * half, scale_factor=2.0, mode="bilinear"),
    "padded": lambda x: F.pad(x * half, (1, 1, 1, 1)),
    "shuffled": lambda x: F.pixel_shuffle(x * half, 2) + 1,
    "averaged": lambda x: (x * half).mean((2, 3)),
    "indexed": lambda x: (x * half)[:, torch.tensor([3, 1, 0])],
    "written": in_place,
    "viewed": lambda x: (x * half).permute(0, 2, 3, 1).reshape(2, 36, 4)[:, 3:9].contiguous(),
    "attended": lambda x: F.scaled_dot_product_attention(rows(x), rows(x), rows(x * half)),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_marks_are_what_other_inputs_move(name: str) -> None:
    x = torch.randn(2, 4, 6, 6, generator=generator)
    assert torch.equal(marks(OPERATIONS[name], x), moves(OPERATIONS[name], x))


UNKNOWN: dict[str, Callable[[Tensor], Tensor]] = {
    "normed": lambda x: F.layer_norm(x * half, x.shape[1:]),
    "random": lambda x: torch.rand_like(x * half),
    "sorted": lambda x: (x * half).sort(1).values,
    "read as another type": lambda x: (x * half).view(torch.int16),
    "counted": lambda x: torch.ones(9)[(x * half).long().clamp(0, 8)],
    "batch statistics": lambda x: F.batch_norm(x * half, None, None, training=True),
    "bicubic": lambda x: F.interpolate(x * half, scale_factor=2.0, mode="bicubic"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_whatever_has_no_rule_is_marked_as_a_whole(name: str) -> None:
    assert marks(UNKNOWN[name], torch.randn(2, 4, 6, 6, generator=generator)).all()


SIZED: dict[str, Callable[[Tensor], Tensor]] = {
    "bordered convolution": lambda x: F.conv2d(0 * x + 2, dead, padding=1),
    "bordered average": lambda x: F.avg_pool2d(0 * x + 2, 3, 1, 1),
    "padding": lambda x: F.pad(0 * x + 2, (1, 1)),
    "sum": lambda x: (0 * x + 2).sum((2, 3)),
}


@pytest.mark.parametrize("name", SIZED)
def test_a_constant_that_the_size_of_the_input_changes_counts_as_dependent(name: str) -> None:
    x = torch.randn(1, 4, 1, 1, generator=generator)
    assert torch.equal(marks(SIZED[name], x), SIZED[name](x) != 0)


def test_a_tap_that_never_meets_the_border_keeps_a_constant() -> None:
    centre = torch.zeros(2, 4, 3, 3)
    centre[:, :, 1, 1] = 1
    x = torch.randn(1, 4, 1, 1)
    assert not marks(lambda x: F.conv2d(0 * x + 2, centre, padding=1), x).any()
    assert marks(lambda x: F.conv2d(0 * x + 2, centre, padding=2), x).all()


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(0, 2), st.integers(1, 2))
def test_convolutions_of_any_form_mark_what_moves(
    seed: int, stride: int, padding: int, dilation: int
) -> None:
    own = torch.Generator().manual_seed(seed)
    groups = int(torch.randint(1, 3, (), generator=own)) ** 2
    weight = torch.randn(8, 8 // groups, 3, 3, generator=own)
    weight *= torch.rand(8, 8 // groups, 1, 1, generator=own) > 0.6
    live = (torch.rand(1, 8, 1, 1, generator=own) > 0.5).float()

    def convolve(x: Tensor) -> Tensor:
        return F.conv2d(x * live, weight, None, stride, padding, dilation, groups)

    x = torch.randn(1, 8, 9, 9, generator=own)
    assert torch.equal(marks(convolve, x), moves(convolve, x))

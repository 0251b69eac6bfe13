"""Arithmetic: the program equals the function."""

import operator
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torchcompress.core.errors import UnsupportedError
from torchcompress.quantization.program import Program
from torchcompress.quantization.trace import trace

Traced = Callable[..., Program]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: 2 - x + x / 3 - (1 / (x * x + 1)) * 0.5,
        lambda x: x**2 + torch.pow(x * x + 1, 0.5) - (x + 5) ** -1 + torch.square(x),
        lambda x: torch.add(x, x * 2, alpha=3) + torch.sub(x, 1.0, alpha=0.5) - torch.neg(x),
        lambda x: (x.mean(1, keepdim=True) - x.sum(-1, keepdim=True)) / x.amax((1, 2), True),
        lambda x: x.max(1)[0] + torch.min(x, dim=1)[0].mean() + torch.amin(x, 1),
        lambda x: torch.max(x, x.flip(1)) + torch.min(x, other=-x) + x.max(x.mean()) + x.max(),
        lambda x: torch.maximum(x, x.flip(1)) * x.minimum(x.roll(1, 1)) - torch.min(x),
        lambda x: x @ x.transpose(1, 2) + torch.bmm(x, x.mT) + x.matmul(x.mT),
        lambda x: torch.einsum("bnc, bmc -> bnm", x, x) + torch.einsum("bnc->bn", x).mean(),
        lambda x: operator.iadd(x * 1.0, 1.0) + operator.imul(x + 0.0, x).sub_(2).div_(2),
        lambda x: x.sum() + x.amax() * x,
        lambda x, m: (m.table.mean() + m.gate * 2) * x.mean() + x,
    ],
)
def test_functions(function: Callable[..., Any], traced: Traced) -> None:
    traced(function, torch.randn(2, 4, 5), torch.randn(1, 4, 5))


def test_sizes_are_computed_when_the_program_runs(traced: Traced) -> None:
    def function(x: Tensor) -> Tensor:
        n, c, length = x.size(0), x.size(1), x.shape[-1]
        half = (length + 1) // 2
        return x[:, :, half - 1 : length - 1 % 2].reshape(n * c, 1, -1) + x[:, :1, :1].mean()

    traced(function, torch.randn(2, 4, 6), torch.randn(3, 4, 9))


def test_assertions_on_shapes_are_not_carried_over(traced: Traced) -> None:
    def function(x: Tensor) -> Tensor:
        torch._assert(x.dim() == 3, f"wrong shape {x.shape}")
        torch._assert(x.shape[1] == 4, "wrong width")
        return x + 1

    assert [op.kind for op in traced(function, torch.randn(2, 4, 6)).ops] == ["add_scalar"]


@pytest.mark.parametrize(
    ("function", "match"),
    [
        (lambda x: x // 2, "floordiv of these operands"),
        (lambda x: x.sum(1.5), "sum with these arguments"),
        (lambda x: x.max(1.5), "max with these arguments"),
        (lambda x: x * x.size(0), "mul of these operands"),
        (lambda x: x.size(0) / 2 * x, "div of sizes"),
        (lambda x: 2**x, "pow of these operands"),
        (lambda x: x * (x > 0), "mul of a condition"),
        (lambda x: x.max(1).indices + x, "the attribute 'indices'"),
        (lambda x: x.max(1)[1] + x, "add of the place of an extreme"),
        (lambda x: torch.einsum("...i,...i", x, x), "einsum without an explicit output"),
        (lambda x: x.argmax(1), "the operation argmax"),
    ],
)
def test_what_is_refused(function: Callable[..., Any], match: str) -> None:
    class Module(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return function(x)

    with pytest.raises(UnsupportedError, match=match):
        trace(Module())


def test_arithmetic_of_integer_buffers_is_refused() -> None:
    class Module(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("index", torch.arange(3))

        def forward(self, x: Tensor) -> Tensor:
            return x[:, self.get_buffer("index") + 1]

    with pytest.raises(UnsupportedError, match="add_scalar takes float32 values"):
        trace(Module())

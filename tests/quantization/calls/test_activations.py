"""Activations: the program equals torch's function, as a module and as a function."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torchcompress.core.errors import UnsupportedError
from torchcompress.quantization.program import Program
from torchcompress.quantization.trace import trace

Traced = Callable[..., Program]


@pytest.mark.parametrize(
    "module",
    [
        *(nn.ReLU(), nn.ReLU6(), nn.Hardswish(), nn.SiLU(), nn.Hardsigmoid(), nn.Sigmoid()),
        *(nn.Tanh(), nn.Mish(), nn.SELU(), nn.Softsign(), nn.LogSigmoid(), nn.GELU()),
        *(nn.GELU("tanh"), nn.LeakyReLU(0.3), nn.ELU(0.7), nn.Softplus(2.0, 1.0), nn.PReLU()),
        *(nn.PReLU(4), nn.Hardtanh(-0.5, 2.0), nn.Hardtanh(0.0, 6.0), nn.Softmax(1)),
        *(nn.LogSoftmax(-1), nn.Softmax2d(), nn.Dropout(0.5), nn.Identity()),
    ],
    ids=repr,
)
def test_modules(module: nn.Module, traced: Traced) -> None:
    traced(nn.Sequential(module), torch.randn(2, 4, 3, 5) * 3, torch.randn(1, 4, 2, 1) * 9)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.relu6(F.hardtanh(x, -2.0, 2.0)) + F.leaky_relu(x) - F.elu(x),
        lambda x: F.gelu(x, approximate="tanh") * F.mish(x) / (F.softplus(x) + 1.0),
        lambda x: F.softmax(x, dim=1) + x.softmax(dim=-1) + torch.log_softmax(x, 1),
        lambda x: F.normalize(x, dim=-1) * F.normalize(x, p=1.0),
        lambda x: x.clamp(-1.0, 1.0) + torch.clamp(x, min=0.5) + x.clip(max=0.1),
        lambda x: x.abs().sqrt() + torch.exp(-x) + (x.abs() + 1).log() + (x * x + 1).rsqrt(),
        lambda x: x.sin() + torch.cos(x) + x.abs().add(1.0).reciprocal(),
        lambda x: F.prelu(x, torch.tensor([0.2])),
        lambda x: F.dropout(x, 0.5, training=False) + F.dropout3d(x, training=False),
        lambda x: F.relu(x.tanh_(), inplace=True) + x.sigmoid(),
    ],
)
def test_functions(function: Callable[[Tensor], Tensor], traced: Traced) -> None:
    x = torch.randn(2, 4, 3, 5) * 3
    traced(lambda y: function(y + 0.0), x, x[:1, :, :2])


@pytest.mark.parametrize(
    ("function", "match"),
    [
        (lambda x: F.softmax(x), "softmax without a dimension"),
        (lambda x: F.softmax(x, 1, dtype=torch.float64), "in another dtype"),
        (lambda x: x.clamp(min=x), "clamp between tensors"),
        (lambda x: F.rrelu(x, training=True), "the operation rrelu"),
    ],
)
def test_what_is_refused(function: Callable[[Tensor], Tensor], match: str) -> None:
    class Module(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return function(x)

    with pytest.raises(UnsupportedError, match=match):
        trace(Module())

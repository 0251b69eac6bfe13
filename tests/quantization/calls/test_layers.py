"""Layers and norms: the program equals the module."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from torchcompress.core.errors import UnsupportedError
from torchcompress.quantization.program import Program
from torchcompress.quantization.trace import trace

Traced = Callable[..., Program]
SHAPES = {1: (9,), 2: (9, 7), 3: (5, 6, 7)}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"stride": 2, "padding": 1, "dilation": 2, "groups": 2, "bias": False},
        {"padding": "same"},
        {"padding": "same", "kernel_size": 2},
        {"padding": "valid"},
        {"padding": 1, "padding_mode": "reflect"},
        {"padding": 2, "padding_mode": "replicate"},
        {"padding": 1, "padding_mode": "circular", "stride": 2},
    ],
)
def test_convolutions(dims: int, settings: dict[str, Any], traced: Traced) -> None:
    layer = getattr(nn, f"Conv{dims}d")(4, 6, **{"kernel_size": 3, **settings})
    for shape in (SHAPES[dims], tuple(n + 1 for n in SHAPES[dims])):
        traced(nn.Sequential(layer), torch.randn(2, 4, *shape))


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize(
    "settings", [{}, {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2, "bias": False}]
)
def test_transposed_convolutions(dims: int, settings: dict[str, Any], traced: Traced) -> None:
    layer = getattr(nn, f"ConvTranspose{dims}d")(4, 6, 3, **settings)
    traced(nn.Sequential(layer), torch.randn(2, 4, *SHAPES[dims]))


@pytest.mark.parametrize(
    ("norm", "shape"),
    [
        (nn.BatchNorm1d(4), (3, 4)),
        (nn.BatchNorm1d(4, affine=False), (3, 4, 5)),
        (nn.BatchNorm2d(4, eps=0.1), (3, 4, 5, 2)),
        (nn.BatchNorm3d(4), (3, 4, 5, 2, 2)),
        (FrozenBatchNorm2d(4, eps=0.1), (3, 4, 5, 2)),
        (nn.LayerNorm(4), (3, 5, 4)),
        (nn.LayerNorm([5, 4], eps=0.1), (3, 5, 4)),
        (nn.LayerNorm(4, bias=False), (3, 4)),
        (nn.LayerNorm(4, elementwise_affine=False), (3, 4)),
        (nn.RMSNorm(4), (3, 4)),
        (nn.RMSNorm(4, eps=0.1, elementwise_affine=False), (3, 4)),
        (nn.GroupNorm(2, 4), (3, 4, 5, 2)),
        (nn.GroupNorm(2, 4, eps=0.1, affine=False), (3, 4)),
        (nn.InstanceNorm2d(4, affine=True), (3, 4, 5, 2)),
        (nn.InstanceNorm1d(4, eps=0.1), (3, 4, 5)),
        (nn.InstanceNorm2d(4, track_running_stats=True), (3, 4, 5, 2)),
        (nn.LocalResponseNorm(3), (3, 4, 5, 2)),
    ],
)
def test_norms(norm: nn.Module, shape: tuple[int, ...], traced: Traced) -> None:
    for buffer in norm.buffers():
        if buffer.is_floating_point():
            nn.init.uniform_(buffer, 0.5, 1.5)
    traced(nn.Sequential(norm), torch.randn(shape), torch.randn(1, *shape[1:]))


class ByFunction(nn.Module):
    def __init__(self, function: Callable[..., Tensor], shape: tuple[int, ...]) -> None:
        super().__init__()
        self.function = function
        self.weight, self.bias = nn.Parameter(torch.randn(shape)), nn.Parameter(torch.randn(4))
        self.register_buffer("mean", torch.randn(4))
        self.register_buffer("var", torch.rand(4) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


@pytest.mark.parametrize(
    ("function", "shape", "given"),
    [
        (lambda s, x: F.conv1d(x, s.weight, s.bias, padding="same"), (4, 4, 3), (2, 4, 5)),
        (lambda s, x: F.conv3d(x, s.weight, stride=(1, 2, 1)), (4, 4, 1, 2, 1), (2, 4, 3, 4, 3)),
        (lambda s, x: F.linear(x, s.weight, s.bias), (4, 3), (2, 5, 3)),
        (lambda s, x: F.layer_norm(x, (4,), s.weight, s.bias, 0.1), (4,), (2, 5, 4)),
        (lambda s, x: F.layer_norm(x, (4,), s.weight * 2), (4,), (2, 5, 4)),
        (lambda s, x: F.group_norm(x, 2, s.weight, s.bias), (4,), (2, 4, 3)),
        (lambda s, x: F.rms_norm(x, (4,), s.weight), (4,), (2, 5, 4)),
        (lambda s, x: F.batch_norm(x, s.mean, s.var, s.weight, s.bias, eps=0.1), (4,), (2, 4, 3)),
        (lambda s, x: F.local_response_norm(x, 3, k=2.0), (4,), (2, 4, 3)),
    ],
)
def test_functions(
    function: Callable[..., Tensor], shape: tuple[int, ...], given: tuple[int, ...], traced: Traced
) -> None:
    traced(ByFunction(function, shape), torch.randn(given), torch.randn(1, *given[1:]))


@pytest.mark.parametrize(
    ("function", "match"),
    [
        (lambda s, x: F.batch_norm(x, None, None, training=True), "without running statistics"),
        (lambda s, x: F.batch_norm(x, s.mean, s.var * 2), "whose tensors the forward pass"),
        (lambda s, x: F.linear(x, s.weight * 2), "a weight that the forward pass computes"),
        (lambda s, x: F.layer_norm(x, (4,), None, s.bias), "a layer norm with a bias and no"),
        (lambda s, x: F.group_norm(x, 2, s.weight), "only one of weight and bias"),
    ],
)
def test_what_is_refused(function: Callable[..., Tensor], match: str) -> None:
    with pytest.raises(UnsupportedError, match=match):
        trace(ByFunction(function, (4,)))


def test_a_half_precision_tensor_is_no_constant() -> None:
    class Half(nn.Module):
        gain: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("gain", torch.randn(4).half())

        def forward(self, x: Tensor) -> Tensor:
            return x * self.gain

    with pytest.raises(UnsupportedError, match=r"gain: a tensor of torch\.float16 \[4\]"):
        trace(Half())

"""Pooling and resizing: the program equals the module."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torchcompress.core.errors import UnsupportedError
from torchcompress.quantization.program import Program
from torchcompress.quantization.trace import trace

Traced = Callable[..., Program]
SHAPES = {1: (9,), 2: (9, 8), 3: (4, 9, 8)}


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize(
    "make",
    [
        lambda n, d: getattr(n, f"MaxPool{d}d")(2),
        lambda n, d: getattr(n, f"MaxPool{d}d")(3, 1, 1, ceil_mode=True),
        lambda n, d: getattr(n, f"AvgPool{d}d")(2),
        lambda n, d: getattr(n, f"AvgPool{d}d")(3, 2, 1, count_include_pad=False),
        lambda n, d: getattr(n, f"AdaptiveAvgPool{d}d")(1),
        lambda n, d: getattr(n, f"AdaptiveAvgPool{d}d")(3),
        lambda n, d: getattr(n, f"AdaptiveMaxPool{d}d")(1),
        lambda n, d: getattr(n, f"AdaptiveMaxPool{d}d")(2),
    ],
)
def test_pooling(dims: int, make: Callable[..., nn.Module], traced: Traced) -> None:
    module, shape = nn.Sequential(make(nn, dims)), SHAPES[dims]
    traced(module, torch.randn(2, 3, *shape), torch.randn(1, 3, *(n + 2 for n in shape)))


@pytest.mark.parametrize(
    "module",
    [
        nn.Upsample(scale_factor=2),
        nn.Upsample((5, 9)),
        nn.Upsample(scale_factor=(2, 1.5), mode="bilinear", align_corners=True),
        nn.Upsample(scale_factor=2, mode="bicubic"),
        nn.UpsamplingNearest2d(scale_factor=3),
        nn.UpsamplingBilinear2d(size=(3, 4)),
    ],
    ids=repr,
)
def test_upsampling(module: nn.Module, traced: Traced) -> None:
    traced(nn.Sequential(module), torch.randn(2, 3, 4, 5), torch.randn(1, 3, 6, 4))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.interpolate(x[:, :, ::2], size=x.shape[-2:], mode="bilinear"),
        lambda x: F.interpolate(x, size=(x.size(2) * 2, 7), mode="nearest-exact"),
        lambda x: F.interpolate(x, 6) + F.interpolate(x, size=6, mode="area"),
        lambda x: F.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True),
        lambda x: F.interpolate(x.mean(-1), scale_factor=2, mode="linear"),
        lambda x: F.max_pool2d(x, (2, 1), padding=(1, 0)) + F.avg_pool2d(x, 3, (2, 1), 1).mean(),
        lambda x: F.adaptive_avg_pool2d(x, (1, 1)) + F.adaptive_max_pool2d(x, 1),
    ],
)
def test_functions(function: Callable[[Tensor], Tensor], traced: Traced) -> None:
    traced(function, torch.randn(2, 3, 8, 5), torch.randn(1, 3, 8, 5))


@pytest.mark.parametrize(
    ("module", "match"),
    [
        (nn.MaxPool2d(2, return_indices=True), "returns indices"),
        (nn.AdaptiveAvgPool2d((None, 3)), "keeps a size"),
        (nn.AvgPool2d(2, divisor_override=3), "a divisor of its own"),
        (nn.Upsample(scale_factor=2, recompute_scale_factor=True), "recomputes its factor"),
    ],
)
def test_what_is_refused(module: nn.Module, match: str) -> None:
    with pytest.raises(UnsupportedError, match=match):
        trace(nn.Sequential(module))

"""Steps of random networks that are one layer on images."""

import random
from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from random_networks.step import WIDTHS, Shape, Step, step

ACTIVATIONS = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "hardswish": nn.Hardswish,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "leaky": nn.LeakyReLU,
    "softplus": nn.Softplus,
}


def divisors(rng: random.Random, *numbers: int) -> int:
    """Returns 2, 4 or 1, whichever divides all the numbers."""
    fits = [d for d in (2, 4) if all(n % d == 0 for n in numbers)]
    return rng.choice(fits) if fits else 1


@step("conv")
class Conv(Step):
    reads = ("image",)
    weight = 10

    def __init__(
        self, shapes: Sequence[Shape], out: int, kernel: int, stride: int, groups: int, bias: bool
    ) -> None:
        super().__init__()
        width = shapes[0][0]
        self.conv = nn.Conv2d(width, out, kernel, stride, kernel // 2, groups=groups, bias=bias)

    @staticmethod
    def draw(rng: random.Random, shapes: Sequence[Shape]) -> dict[str, Any]:
        width, height, _ = shapes[0]
        out = rng.choice((*WIDTHS, width))
        return {
            "out": out,
            "kernel": rng.choice((1, 3)),
            "stride": rng.choice((1, 1, 1, 2)) if height > 3 else 1,
            "groups": divisors(rng, width, out) if rng.random() < 0.3 else 1,
            "bias": rng.random() < 0.7,
        }

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


@step("depthwise")
class Depthwise(Step):
    reads = ("image",)
    weight = 3

    def __init__(self, shapes: Sequence[Shape], multiplier: int) -> None:
        super().__init__()
        width = shapes[0][0]
        self.conv = nn.Conv2d(width, width * multiplier, 3, padding=1, groups=width)

    @staticmethod
    def draw(rng: random.Random, shapes: Sequence[Shape]) -> dict[str, Any]:
        return {"multiplier": rng.choice((1, 1, 2))}

    @staticmethod
    def fits(shapes: Sequence[Shape]) -> bool:
        return 1 < shapes[0][0] <= 24

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


@step("transposed")
class Transposed(Step):
    reads = ("image",)
    weight = 3

    def __init__(self, shapes: Sequence[Shape], out: int, stride: int, groups: int) -> None:
        super().__init__()
        width = shapes[0][0]
        self.conv = nn.ConvTranspose2d(width, out, stride, stride, groups=groups)

    @staticmethod
    def draw(rng: random.Random, shapes: Sequence[Shape]) -> dict[str, Any]:
        width, height, _ = shapes[0]
        out = rng.choice(WIDTHS)
        return {
            "out": out,
            "stride": rng.choice((1, 2)) if height < 6 else 1,
            "groups": divisors(rng, width, out) if rng.random() < 0.4 else 1,
        }

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


@step("norm")
class Norm(Step):
    reads = ("image",)
    weight = 5

    def __init__(self, shapes: Sequence[Shape], kind: str, groups: int) -> None:
        super().__init__()
        width = shapes[0][0]
        self.norm: nn.Module
        match kind:
            case "batch":
                self.norm = nn.BatchNorm2d(width)
            case "instance":
                self.norm = nn.InstanceNorm2d(width, affine=True)
            case "tracked":
                self.norm = nn.InstanceNorm2d(width, affine=True, track_running_stats=True)
            case _:
                self.norm = nn.GroupNorm(groups, width)

    @staticmethod
    def draw(rng: random.Random, shapes: Sequence[Shape]) -> dict[str, Any]:
        return {
            "kind": rng.choice(("batch", "batch", "batch", "instance", "tracked", "group")),
            "groups": divisors(rng, shapes[0][0]),
        }

    @staticmethod
    def fits(shapes: Sequence[Shape]) -> bool:
        return shapes[0][1] > 1

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)


@step("layer_norm_2d")
class LayerNorm2d(Step):
    """A layer norm over the channels of an image, as ConvNeXt has it."""

    reads = ("image",)

    def __init__(self, shapes: Sequence[Shape]) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(shapes[0][0])

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@step("activation")
class Activation(Step):
    reads = ("image",)
    weight = 5

    def __init__(self, shapes: Sequence[Shape], kind: str) -> None:
        super().__init__()
        self.act = nn.PReLU(shapes[0][0]) if kind == "prelu" else ACTIVATIONS[kind]()

    @staticmethod
    def draw(rng: random.Random, shapes: Sequence[Shape]) -> dict[str, Any]:
        return {"kind": rng.choice((*ACTIVATIONS, "prelu"))}

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x)


@step("resize")
class Resize(Step):
    reads = ("image",)

    def __init__(self, shapes: Sequence[Shape], kind: str) -> None:
        super().__init__()
        self.kind = kind

    @staticmethod
    def draw(rng: random.Random, shapes: Sequence[Shape]) -> dict[str, Any]:
        return {"kind": rng.choice(("max", "average", "adaptive", "nearest", "bilinear"))}

    def forward(self, x: Tensor) -> Tensor:
        match self.kind:
            case "max":
                return F.max_pool2d(x, 3, 1, 1)
            case "average":
                return F.avg_pool2d(x, 3, 1, 1)
            case "adaptive":
                return F.adaptive_avg_pool2d(x, 3)
            case _:
                return F.interpolate(x, size=(4, 4), mode=self.kind)

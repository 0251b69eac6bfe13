"""Steps of random networks that move, scale, split or weigh the channels of images."""

import random
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from random_networks.image_layers import divisors
from random_networks.step import WIDTHS, Shape, Step, step


@step("shuffle")
class Shuffle(Step):
    """ShuffleNet's channel shuffle."""

    reads = ("image",)

    def __init__(self, shapes: Sequence[Shape], groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.fixed = groups == shapes[0][0]  # The code counts every single channel.

    @staticmethod
    def draw(rng: random.Random, shapes: Sequence[Shape]) -> dict[str, Any]:
        return {"groups": divisors(rng, shapes[0][0])}

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        parts = x.view(batch, self.groups, channels // self.groups, height, width)
        return parts.transpose(1, 2).reshape(batch, channels, height, width)


@step("pixels")
class Pixels(Step):
    """Channels become positions, or the other way round."""

    reads = ("image",)

    def __init__(self, shapes: Sequence[Shape], down: bool) -> None:
        super().__init__()
        self.move = nn.PixelUnshuffle(2) if down else nn.PixelShuffle(2)

    @staticmethod
    def draw(rng: random.Random, shapes: Sequence[Shape]) -> dict[str, Any]:
        width, height, _ = shapes[0]
        return {"down": width % 4 > 0 or (height % 2 == 0 and width <= 8)}

    @staticmethod
    def fits(shapes: Sequence[Shape]) -> bool:
        width, height, _ = shapes[0]
        return (width % 4 == 0 and width > 4 and height <= 4) or (height % 2 == 0 and width <= 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.move(x)


@step("squeeze_excite")
class SqueezeExcite(Step):
    reads = ("image",)
    weight = 3

    def __init__(self, shapes: Sequence[Shape], linear: bool) -> None:
        super().__init__()
        width = shapes[0][0]
        self.linear = linear
        self.down = nn.Linear(width, 8) if linear else nn.Conv2d(width, 8, 1)
        self.up = nn.Linear(8, width) if linear else nn.Conv2d(8, width, 1)

    @staticmethod
    def draw(rng: random.Random, shapes: Sequence[Shape]) -> dict[str, Any]:
        return {"linear": rng.random() < 0.5}

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3)) if self.linear else x.mean((2, 3), keepdim=True)
        gate = torch.sigmoid(self.up(F.relu(self.down(mean))))
        return x * (gate.view(*gate.shape[:2], 1, 1) if self.linear else gate)


@step("scale")
class Scale(Step):
    """A raw parameter or buffer that multiplies each channel."""

    reads = ("image",)

    def __init__(self, shapes: Sequence[Shape], buffer: bool) -> None:
        super().__init__()
        value = torch.rand(1, shapes[0][0], 1, 1) + 0.5
        self.scale: Tensor
        if buffer:
            self.register_buffer("scale", value)
        else:
            self.register_parameter("scale", nn.Parameter(value[0]))

    @staticmethod
    def draw(rng: random.Random, shapes: Sequence[Shape]) -> dict[str, Any]:
        return {"buffer": rng.random() < 0.5}

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


@step("pad")
class Pad(Step):
    reads = ("image",)

    def __init__(self, shapes: Sequence[Shape], kind: str) -> None:
        super().__init__()
        self.kind = kind

    @staticmethod
    def draw(rng: random.Random, shapes: Sequence[Shape]) -> dict[str, Any]:
        return {"kind": rng.choice(("zeros", "reflect", "channels", "crop", "roll", "flip"))}

    @staticmethod
    def fits(shapes: Sequence[Shape]) -> bool:
        return 2 < shapes[0][1] < 8

    def forward(self, x: Tensor) -> Tensor:
        match self.kind:
            case "zeros":
                return F.pad(x, (1, 1, 1, 1))
            case "reflect":
                return F.pad(x, (1, 1, 1, 1), mode="reflect")
            case "channels":
                return F.pad(x, (0, 0, 0, 0, 2, 2))
            case "crop":
                return x[..., 1:, 1:]
            case "roll":
                return x.roll((1, -1), (2, 3))
            case _:
                return x.flip(-1)


@step("slice")
class Slice(Step):
    """Some of the channels, by a position that the code fixes."""

    reads = ("image",)
    fixed = True

    def __init__(self, shapes: Sequence[Shape], kind: str) -> None:
        super().__init__()
        self.kind = kind

    @staticmethod
    def draw(rng: random.Random, shapes: Sequence[Shape]) -> dict[str, Any]:
        return {"kind": rng.choice(("first", "last", "even", "split"))}

    @staticmethod
    def fits(shapes: Sequence[Shape]) -> bool:
        return shapes[0][0] >= 8

    def forward(self, x: Tensor) -> Tensor:
        match self.kind:
            case "first":
                return x[:, :4]
            case "last":
                return x[:, -6:]
            case "split":
                return x.split([4, x.shape[1] - 4], 1)[1]
            case _:
                return x[:, ::2]


@step("parts")
class Parts(Step):
    """Channels are taken apart into two values."""

    reads = ("image",)
    results = 2
    weight = 4

    def __init__(self, shapes: Sequence[Shape], kind: str) -> None:
        super().__init__()
        self.kind = kind

    @staticmethod
    def draw(rng: random.Random, shapes: Sequence[Shape]) -> dict[str, Any]:
        return {"kind": rng.choice(("chunk", "split", "halves", "tensor_split"))}

    @staticmethod
    def fits(shapes: Sequence[Shape]) -> bool:
        return shapes[0][0] >= 8 and shapes[0][0] % 2 == 0

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        half = x.shape[1] // 2
        match self.kind:
            case "chunk":
                return x.chunk(2, 1)
            case "split":
                return x.split(half, 1)
            case "halves":
                return x[:, :half], x[:, half:]
            case _:
                return x.tensor_split(2, 1)


@step("gated")
class Gated(Step):
    """A gated linear unit over channels."""

    reads = ("image",)

    def __init__(self, shapes: Sequence[Shape], out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(shapes[0][0], 2 * out, 1)

    @staticmethod
    def draw(rng: random.Random, shapes: Sequence[Shape]) -> dict[str, Any]:
        return {"out": rng.choice(WIDTHS)}

    def forward(self, x: Tensor) -> Tensor:
        return F.glu(self.conv(x), 1)


@step("attend_places")
class AttendPlaces(Step):
    """A gate from the mean and the largest of all channels, as CBAM has it."""

    reads = ("image",)
    weight = 1
    statistic = True

    def __init__(self, shapes: Sequence[Shape]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return x * torch.sigmoid(self.conv(both))

"""Steps of random networks that read two values, or change what kind of value it is."""

import random
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from random_networks.step import Shape, Step, step


class _Join(Step):
    """Two values of one shape become one."""

    def __init__(self, shapes: Sequence[Shape], kind: str) -> None:
        super().__init__()
        self.kind = kind

    @staticmethod
    def draw(rng: random.Random, shapes: Sequence[Shape]) -> dict[str, Any]:
        return {"kind": rng.choice(("add", "add", "add", "inplace", "mul", "max", "stack"))}

    @staticmethod
    def fits(shapes: Sequence[Shape]) -> bool:
        return shapes[0] == shapes[1]

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        match self.kind:
            case "add":
                return a + b
            case "inplace":
                total = a.clone()
                total += b
                return total
            case "mul":
                return a * torch.sigmoid(b)
            case "max":
                return torch.maximum(a, b)
            case _:
                return torch.stack([a, b], 1).mean(1)


@step("join_images")
class JoinImages(_Join):
    reads = ("image", "image")
    weight = 12


@step("join_tokens")
class JoinTokens(_Join):
    reads = ("tokens", "tokens")
    weight = 10


@step("join_vectors")
class JoinVectors(_Join):
    reads = ("vector", "vector")
    weight = 4


class _Cat(Step):
    def __init__(self, shapes: Sequence[Shape], swap: bool) -> None:
        super().__init__()
        self.swap = swap

    @staticmethod
    def draw(rng: random.Random, shapes: Sequence[Shape]) -> dict[str, Any]:
        return {"swap": rng.random() < 0.5}


@step("cat_images")
class CatImages(_Cat):
    reads = ("image", "image")
    weight = 8

    @staticmethod
    def fits(shapes: Sequence[Shape]) -> bool:
        return shapes[0][1:] == shapes[1][1:] and shapes[0][0] + shapes[1][0] <= 40

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.cat([b, a] if self.swap else [a, b], 1)


@step("cat_tokens")
class CatTokens(_Cat):
    """One sequence after the other."""

    reads = ("tokens", "tokens")
    weight = 3

    @staticmethod
    def fits(shapes: Sequence[Shape]) -> bool:
        return shapes[0][1] == shapes[1][1] and shapes[0][0] + shapes[1][0] <= 40

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.cat([b, a] if self.swap else [a, b], -2)


@step("cat_vectors")
class CatVectors(_Cat):
    reads = ("vector", "vector")
    weight = 3

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.cat([b, a] if self.swap else [a, b], -1)


@step("modulate")
class Modulate(Step):
    """A vector scales and shifts the channels of an image."""

    reads = ("image", "vector")
    weight = 5

    def __init__(self, shapes: Sequence[Shape]) -> None:
        super().__init__()
        self.film = nn.Linear(shapes[1][0], 2 * shapes[0][0])

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.film(condition)[:, :, None, None].chunk(2, 1)
        return x * (1 + scale) + shift


@step("bilinear")
class Bilinear(Step):
    """All products of two sequences, summed over the channels of both."""

    reads = ("tokens", "tokens")

    def __init__(self, shapes: Sequence[Shape], einsum: bool) -> None:
        super().__init__()
        self.einsum = einsum
        self.left, self.right = nn.Linear(shapes[0][1], 12), nn.Linear(shapes[1][1], 12)

    @staticmethod
    def draw(rng: random.Random, shapes: Sequence[Shape]) -> dict[str, Any]:
        return {"einsum": rng.random() < 0.5}

    @staticmethod
    def fits(shapes: Sequence[Shape]) -> bool:
        return shapes[0][0] <= 16 and shapes[1][0] <= 16

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        left, right = self.left(a), self.right(b)
        if self.einsum:
            return torch.einsum("bnc,bmc->bnm", left, right)
        return left @ right.transpose(1, 2)


@step("to_tokens")
class ToTokens(Step):
    reads = ("image",)
    weight = 3

    def __init__(self, shapes: Sequence[Shape], kind: str) -> None:
        super().__init__()
        self.kind = kind

    @staticmethod
    def draw(rng: random.Random, shapes: Sequence[Shape]) -> dict[str, Any]:
        return {"kind": rng.choice(("flatten", "permute", "view"))}

    @staticmethod
    def fits(shapes: Sequence[Shape]) -> bool:
        return shapes[0][1] * shapes[0][2] <= 36

    def forward(self, x: Tensor) -> Tensor:
        match self.kind:
            case "flatten":
                return x.flatten(2).transpose(1, 2)
            case "permute":
                return x.permute(0, 2, 3, 1).flatten(1, 2)
            case _:
                return x.reshape(x.shape[0], x.shape[1], -1).permute(0, 2, 1)


@step("to_image")
class ToImage(Step):
    reads = ("tokens",)

    def __init__(self, shapes: Sequence[Shape]) -> None:
        super().__init__()

    @staticmethod
    def fits(shapes: Sequence[Shape]) -> bool:
        return shapes[0][0] in (4, 9, 16, 25, 36)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, channels = x.shape
        side = round(length**0.5)
        return x.transpose(1, 2).reshape(batch, channels, side, side)


@step("to_vector")
class ToVector(Step):
    reads = ("image",)
    weight = 3

    def __init__(self, shapes: Sequence[Shape], kind: str) -> None:
        super().__init__()
        self.kind = kind

    @staticmethod
    def draw(rng: random.Random, shapes: Sequence[Shape]) -> dict[str, Any]:
        return {"kind": rng.choice(("mean", "largest", "flatten", "last", "adaptive"))}

    def forward(self, x: Tensor) -> Tensor:
        match self.kind:
            case "mean":
                return x.mean((2, 3))
            case "largest":
                return x.amax((2, 3))
            case "flatten":
                return x.flatten(1)
            case "last":
                return x.permute(0, 2, 3, 1).flatten(1)
            case _:
                return torch.flatten(F.adaptive_avg_pool2d(x, 2), 1)


@step("pool_tokens")
class PoolTokens(Step):
    reads = ("tokens",)
    weight = 3

    def __init__(self, shapes: Sequence[Shape], kind: str) -> None:
        super().__init__()
        self.kind = kind

    @staticmethod
    def draw(rng: random.Random, shapes: Sequence[Shape]) -> dict[str, Any]:
        return {"kind": rng.choice(("mean", "first", "flatten"))}

    def forward(self, x: Tensor) -> Tensor:
        match self.kind:
            case "mean":
                return x.mean(1)
            case "first":
                return x[:, 0]
            case _:
                return x.flatten(1)

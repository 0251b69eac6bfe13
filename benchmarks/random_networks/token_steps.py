"""Steps of random networks over tokens and vectors: projections, norms and attention."""

import random
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from random_networks.step import WIDTHS, Shape, Step, step


class _Linear(Step):
    def __init__(self, shapes: Sequence[Shape], out: int, bias: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(shapes[0][-1], out, bias)

    @staticmethod
    def draw(rng: random.Random, shapes: Sequence[Shape]) -> dict[str, Any]:
        return {"out": rng.choice((*WIDTHS, shapes[0][-1])), "bias": rng.random() < 0.7}

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


@step("linear_tokens")
class LinearTokens(_Linear):
    reads = ("tokens",)
    weight = 8


@step("linear_vector")
class LinearVector(_Linear):
    reads = ("vector",)
    weight = 6


@step("matmul")
class Matmul(Step):
    """A product with a raw parameter."""

    reads = ("vector",)

    def __init__(self, shapes: Sequence[Shape], out: int) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(shapes[0][0], out))

    @staticmethod
    def draw(rng: random.Random, shapes: Sequence[Shape]) -> dict[str, Any]:
        return {"out": rng.choice(WIDTHS)}

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.matrix


@step("low_rank")
class LowRank(Step):
    """A linear layer plus the product of two thin ones, as adapters have it."""

    reads = ("vector",)

    def __init__(self, shapes: Sequence[Shape]) -> None:
        super().__init__()
        width = shapes[0][0]
        self.base = nn.Linear(width, 12)
        self.down, self.up = nn.Linear(width, 4, bias=False), nn.Linear(4, 12, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + 0.5 * self.up(self.down(x))


class _Norm(Step):
    def __init__(self, shapes: Sequence[Shape], kind: str) -> None:
        super().__init__()
        width = shapes[0][-1]
        self.norm = nn.LayerNorm(width) if kind == "layer" else nn.RMSNorm(width)

    @staticmethod
    def draw(rng: random.Random, shapes: Sequence[Shape]) -> dict[str, Any]:
        return {"kind": rng.choice(("layer", "layer", "rms"))}

    @staticmethod
    def fits(shapes: Sequence[Shape]) -> bool:
        return shapes[0][-1] > 1

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)


@step("norm_tokens")
class NormTokens(_Norm):
    reads = ("tokens",)
    weight = 4


@step("norm_vector")
class NormVector(_Norm):
    reads = ("vector",)


class _Pointwise(Step):
    def __init__(self, shapes: Sequence[Shape], kind: str) -> None:
        super().__init__()
        self.kind = kind

    @staticmethod
    def draw(rng: random.Random, shapes: Sequence[Shape]) -> dict[str, Any]:
        return {"kind": rng.choice(("relu", "gelu", "sigmoid", "square", "clamp", "unit"))}

    def forward(self, x: Tensor) -> Tensor:
        match self.kind:
            case "relu":
                return F.relu(x)
            case "gelu":
                return F.gelu(x)
            case "sigmoid":
                return torch.sigmoid(x)
            case "square":
                return x * x
            case "clamp":
                return x.clamp(-1, 1)
            case _:
                return x / (1 + x.abs())


@step("pointwise_tokens")
class PointwiseTokens(_Pointwise):
    reads = ("tokens",)
    weight = 3


@step("pointwise_vector")
class PointwiseVector(_Pointwise):
    reads = ("vector",)
    weight = 3


@step("softmax")
class ChannelSoftmax(Step):
    """A softmax over the channels gates them."""

    reads = ("tokens",)
    weight = 1
    statistic = True

    def __init__(self, shapes: Sequence[Shape]) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.softmax(x, -1)


@step("class_token")
class ClassToken(Step):
    """A learned first token and learned positions."""

    reads = ("tokens",)

    def __init__(self, shapes: Sequence[Shape]) -> None:
        super().__init__()
        length, width = shapes[0]
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.position = nn.Parameter(torch.randn(1, length + 1, width))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position


@step("attention")
class Attention(Step):
    """Self-attention over tokens, in one of its usual spellings."""

    reads = ("tokens",)
    weight = 6

    def __init__(self, shapes: Sequence[Shape], kind: str, heads: int, fused: bool) -> None:
        super().__init__()
        width = shapes[0][1]
        inner = width if kind == "module" else 16
        self.kind, self.heads, self.fused = kind, heads, fused
        if kind == "module":
            self.inner = nn.MultiheadAttention(width, heads, batch_first=True)
        elif fused:
            self.qkv = nn.Linear(width, 3 * inner)
        else:
            self.q, self.k, self.v = (nn.Linear(width, inner) for _ in range(3))
        if kind != "module":
            self.proj = nn.Linear(inner, width)

    @staticmethod
    def draw(rng: random.Random, shapes: Sequence[Shape]) -> dict[str, Any]:
        kinds = ["sdpa", "matmul", "einsum"]
        if shapes[0][1] % 2 == 0:
            kinds += ["module", "module"]
        return {"kind": rng.choice(kinds), "heads": 2, "fused": rng.random() < 0.5}

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "module":
            return self.inner(x, x, x, need_weights=False)[0]
        batch, length, _ = x.shape
        if self.fused:
            parts = self.qkv(x).reshape(batch, length, 3, self.heads, -1)
            q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)
        else:
            q, k, v = (
                p(x).view(batch, length, self.heads, -1).transpose(1, 2)
                for p in (self.q, self.k, self.v)
            )
        match self.kind:
            case "sdpa":
                mixed = F.scaled_dot_product_attention(q, k, v)
            case "matmul":
                mixed = torch.softmax(q @ k.transpose(-2, -1) * 0.35, -1) @ v
            case _:
                scores = torch.einsum("bhnd,bhmd->bhnm", q, k) * 0.35
                mixed = torch.einsum("bhnm,bhmd->bhnd", scores.softmax(-1), v)
        return self.proj(mixed.transpose(1, 2).reshape(batch, length, -1))

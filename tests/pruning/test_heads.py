"""Attention in a user's own code loses heads where it counts them in attributes."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torchcompress import Target
from torchcompress.pruning import plan_channels

x = torch.randn(2, 5, 6)


class Separate(nn.Module):
    """Three projections and written-out products, like those of language models."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 16)
        self.query, self.key, self.value = (nn.Linear(16, 16) for _ in range(3))
        self.out = nn.Linear(16, 3)
        self.num_attention_heads, self.head_size, self.all_head_size = 4, 4, 16

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        shape = (*x.shape[:2], self.num_attention_heads, self.head_size)
        q, k, v = (p(x).view(shape).transpose(1, 2) for p in (self.query, self.key, self.value))
        weights = (q @ k.transpose(2, 3) * self.head_size**-0.5).softmax(-1)
        return self.out((weights @ v).transpose(1, 2).reshape(*x.shape[:2], self.all_head_size))


class Packed(nn.Module):
    """One projection and the fused operation, like those of vision models."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 16)
        self.qkv = nn.Linear(16, 48)
        self.out = nn.Linear(16, 3)
        self.num_heads, self.head_dim, self.attn_dim = 4, 4, 16

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(self.embed(x)).unflatten(-1, (3, self.num_heads, self.head_dim))
        mixed = F.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4).unbind(0))
        return self.out(mixed.transpose(1, 2).reshape(*x.shape[:2], self.attn_dim))


@pytest.mark.parametrize(
    ("build", "layers"), [(Separate, ("query", "key", "value")), (Packed, ("qkv",))]
)
def test_heads_that_are_counted_in_attributes_go(
    build: type[nn.Module], layers: tuple[str, ...]
) -> None:
    torch.manual_seed(0)
    model = build().eval()
    plan = plan_channels(model, x, Target(channels=0.5), exclude=["embed"], round_to=1)
    zeroed = copy.deepcopy(model)
    with torch.no_grad():
        for layer in layers:
            gone = plan.removed[f"{layer}.weight"][0]
            assert len({row // 4 for row in gone}) * 4 == len(gone) > 0
            zeroed.get_parameter(f"{layer}.weight")[gone] = 0
            zeroed.get_parameter(f"{layer}.bias")[gone] = 0
    assert torch.allclose(plan.apply(model)(x), zeroed(x), atol=1e-6)
    assert plan.mends[""] in (
        {"num_attention_heads": 2, "all_head_size": 8}, {"num_heads": 2, "attn_dim": 8}
    )  # fmt: skip


class Fixed(Packed):
    """The number of heads stands in the code."""

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(self.embed(x)).unflatten(-1, (3, 4, -1))
        mixed = F.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4).unbind(0))
        return self.out(mixed.transpose(1, 2).flatten(2))


def test_heads_that_are_counted_in_the_code_stay() -> None:
    plan = plan_channels(Fixed().eval(), x, Target(channels=0.5), round_to=1)
    assert "fails its trial" in plan.frozen["qkv"]
    assert {group.name: group.kept for group in plan.groups}["embed"] == 8

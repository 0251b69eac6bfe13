"""Attention that reshapes to the width of its input loses channels together with that input."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torchcompress import Target
from torchcompress.errors import UnsupportedError
from torchcompress.graph import Group
from torchcompress.pruning import PruningPlan, plan_channels
from torchcompress.pruning import channels as planning

x = torch.randn(2, 5, 6)

Attend = Callable[[Tensor, Tensor, Tensor, int], Tensor]
Oracle = Callable[[nn.Module, Tensor, PruningPlan], Tensor]


def stored_scale(q: Tensor, k: Tensor, v: Tensor, width: int) -> Tensor:
    return (q @ k.transpose(2, 3) * 8**-0.5).softmax(-1) @ v


def derived_scale(q: Tensor, k: Tensor, v: Tensor, width: int) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v)


def computed_scale(q: Tensor, k: Tensor, v: Tensor, width: int) -> Tensor:
    return (q @ k.transpose(2, 3) * width**-0.5).softmax(-1) @ v


class Attention(nn.Module):
    """Four heads; `counted` keeps their number where a plan finds it."""

    def __init__(
        self, attend: Attend = stored_scale, *, width: int = 32, counted: bool = False
    ) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.attend = attend
        if counted:
            self.num_heads = 4

    def forward(self, x: Tensor) -> Tensor:
        batch, count, width = x.shape
        heads = getattr(self, "num_heads", 4)
        packed = self.qkv(x).reshape(batch, count, 3, heads, width // heads)
        q, k, v = packed.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = self.attend(q, k, v, width // heads)
        return self.proj(mixed.transpose(1, 2).reshape(batch, count, width))


class Encoder(nn.Module):
    def __init__(self, *attentions: nn.Module) -> None:
        super().__init__()
        self.embed, self.blocks = nn.Linear(6, 32), nn.ModuleList(attentions)
        self.mlp, self.back, self.head = nn.Linear(32, 64), nn.Linear(64, 32), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for block in self.blocks:
            x = x + block(x)
        x = x + self.back(self.mlp(x).relu())
        return self.head(x.mean(1))


def left(plan: PruningPlan, name: str, dim: int, size: int) -> list[int]:
    gone = plan.removed.get(name, {}).get(dim, [])
    return [index for index in range(size) if index not in gone]


def dense(model: Encoder, plan: PruningPlan, scale: float) -> Tensor:
    """Computes the encoder head by head on the weights that are left."""
    weights = model.state_dict()
    stream = left(plan, "embed.weight", 0, 32)
    h = x @ weights["embed.weight"][stream].T + weights["embed.bias"][stream]
    for number in range(len(model.blocks)):
        qkv, proj = f"blocks.{number}.qkv", f"blocks.{number}.proj"
        inner = left(plan, f"{proj}.weight", 1, 32)
        assert inner == stream
        assert left(plan, f"{qkv}.weight", 0, 96) == [i + 32 * p for p in range(3) for i in inner]
        assert left(plan, f"{qkv}.weight", 1, 32) == left(plan, f"{proj}.weight", 0, 32) == stream
        made = h @ weights[f"{qkv}.weight"][:, stream].T + weights[f"{qkv}.bias"]
        added = weights[f"{proj}.bias"][stream]
        for head in range(4):
            rows = [index for index in inner if index // 8 == head]
            if rows:
                q, k, v = (made[..., [row + 32 * part for row in rows]] for part in range(3))
                mixed = torch.softmax(q @ k.transpose(1, 2) * scale, -1) @ v
                added = added + mixed @ weights[f"{proj}.weight"][stream][:, rows].T
        h = h + added
    hidden = left(plan, "mlp.weight", 0, 64)
    made = h @ weights["mlp.weight"][hidden][:, stream].T + weights["mlp.bias"][hidden]
    back = weights["back.weight"][stream][:, hidden]
    h = h + made.relu() @ back.T + weights["back.bias"][stream]
    return h.mean(1) @ weights["head.weight"][:, stream].T + weights["head.bias"]


def check(model: Encoder, plan: PruningPlan, scale: float) -> None:
    with torch.no_grad():
        expected, found = dense(model, plan, scale), plan.apply(model)(x)
    assert torch.allclose(found, expected, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("part", ["heads", "head_dims"])
@pytest.mark.parametrize("kept", [0.75, 0.3])
def test_a_fixed_number_of_heads_loses_dimensions_in_each(part: str, kept: float) -> None:
    torch.manual_seed(0)
    model = Encoder(Attention(), Attention())
    plan = plan_channels(model, x, Target(macs=kept), round_to=1, attention=part)
    assert plan.inexact == {}
    stream = left(plan, "embed.weight", 0, 32)
    assert len({tuple(i % 8 for i in stream if i // 8 == head) for head in range(4)}) == 1
    assert 0 < len(stream) < 32
    check(model, plan, 8**-0.5)


def test_a_counted_number_of_heads_loses_whole_ones() -> None:
    torch.manual_seed(0)
    model = Encoder(Attention(counted=True), Attention(counted=True))
    plan = plan_channels(model, x, Target(macs=0.4), round_to=1)
    heads = {index // 8 for index in left(plan, "embed.weight", 0, 32)}
    assert len(left(plan, "embed.weight", 0, 32)) == 8 * len(heads) < 32
    assert plan.inexact == {}
    check(model, plan, 8**-0.5)
    assert plan.apply(model).get_submodule("blocks.1").num_heads == len(heads)


def test_a_scale_that_the_kernel_derives_is_that_of_the_width_left() -> None:
    torch.manual_seed(0)
    model = Encoder(Attention(derived_scale))
    plan = plan_channels(model, x, Target(macs=0.4), round_to=1)
    width = len(left(plan, "embed.weight", 0, 32)) // 4
    assert 0 < width < 8
    assert plan.inexact.keys() == {"embed"}
    check(model, plan, 1 / math.sqrt(width))


def test_a_scale_that_the_code_computes_keeps_the_width() -> None:
    torch.manual_seed(0)
    model = Encoder(Attention(computed_scale))
    plan = plan_channels(model, x, Target(channels=0.5), round_to=1)
    frozen = {group.name: group.frozen or "" for group in plan.groups}
    assert all(frozen[name].startswith("fails its trial") for name in ("embed", "blocks.0.qkv"))
    assert plan.removed.keys() == {"mlp.weight", "mlp.bias", "back.weight"}
    check(model, plan, 8**-0.5)


class Stages(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.down, self.head = nn.Linear(6, 32), nn.Linear(32, 16), nn.Linear(16, 4)
        self.first, self.second = Attention(), Attention(width=16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        x = self.down(x + self.first(x))
        return self.head((x + self.second(x)).mean(1))


def test_groups_that_fail_later_are_tied_too(oracle: Oracle) -> None:
    torch.manual_seed(0)
    scored: list[set[str]] = []

    def second_last(groups: list[Group], tensors: dict[str, Tensor]) -> dict[str, np.ndarray]:
        scored.append({group.name for group in groups})
        late = {"down", "second.qkv"} if len(scored) == 1 else set()
        return {g.name: np.arange(g.units) + 100.0 * (g.name in late) for g in groups}

    model = Stages()
    plan = plan_channels(model, x, Target(macs=0.5), importance=second_last, round_to=1)
    assert scored[0] == {"embed", "first.qkv", "down", "second.qkv"}
    assert {"embed", "down", "second.qkv"} in scored
    assert scored[-1] == {"embed", "down"}
    assert len(left(plan, "down.weight", 0, 16)) < 16
    with torch.no_grad():
        assert torch.allclose(plan.apply(model)(x), oracle(model, x, plan), atol=1e-5)


def test_a_group_of_the_width_that_lost_nothing_yet_joins_the_tie() -> None:
    torch.manual_seed(0)
    model = Encoder(Attention(), Attention())

    def late(groups: list[Group], tensors: dict[str, Tensor]) -> dict[str, np.ndarray]:
        return {g.name: np.arange(g.units) + 100.0 * (g.name == "blocks.1.qkv") for g in groups}

    plan = plan_channels(model, x, Target(macs=0.9), round_to=1, importance=late)
    assert {group.name for group in plan.groups if not group.frozen} == {"embed", "mlp"}
    check(model, plan, 8**-0.5)


class Fixed(nn.Module):
    """Two layers whose widths are written in the code, each on its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).reshape(2, 5, 8).relu()
        return self.last(self.second(x).reshape(2, 5, 8))


def test_groups_that_no_tie_helps_are_frozen_with_their_own_reasons() -> None:
    with pytest.raises(UnsupportedError) as error:
        plan_channels(Fixed(), x, Target(channels=0.5), round_to=1)
    assert "first fails its trial" in str(error.value)
    assert "second fails its trial" in str(error.value)


def test_a_model_whose_groups_pass_is_traced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[str] = []
    once = planning.trace

    def counted(model: nn.Module, x: Tensor, *, attention: str) -> object:
        runs.append(attention)
        return once(model, x, attention=attention)

    monkeypatch.setattr(planning, "trace", counted)
    plan_channels(Encoder(), x, Target(macs=0.5), round_to=1)
    assert runs == ["heads"]
    plan_channels(Encoder(Attention()), x, Target(macs=0.5), round_to=1)
    assert runs == ["heads", "heads", "heads", "head_dims"]


def test_batches_that_can_be_read_once_score_the_groups_once() -> None:
    torch.manual_seed(0)
    model, batches = Encoder(Attention()), [x, x]
    target = Target(macs=0.6)
    tied = plan_channels(model, x, target, round_to=1, importance="variance", data=batches)
    plan = plan_channels(model, x, target, round_to=1, importance="variance", data=iter(batches))
    assert not next(group for group in tied.groups if group.name == "embed").frozen
    assert next(group for group in plan.groups if group.name == "embed").frozen

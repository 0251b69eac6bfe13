"""Random convolutional networks: every plan holds by an oracle that does not share its code."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from torchcompress import Target
from torchcompress.errors import TargetUnreachable, UnsupportedError
from torchcompress.pruning import PruningPlan, plan_channels

BLOCKS = ("conv", "grouped", "depthwise", "residual", "concat", "chunk", "shuffle", "gate", "up")


class Block(nn.Module):
    """One block that keeps the image size; `kind` says how channels flow through it."""

    def __init__(self, kind: str, width: int, out: int, groups: int) -> None:
        super().__init__()
        self.kind, self.groups = kind, groups
        same = kind in ("depthwise", "residual", "shuffle", "gate")
        self.out = width if same else out
        self.norm = nn.BatchNorm2d(width)
        if kind == "chunk":
            self.conv = nn.Conv2d(width, 2 * out, 1)
        elif kind == "concat":
            self.conv = nn.Conv2d(width, out, 3, padding=1)
            self.out = out + width
        elif kind == "up":
            self.conv = nn.ConvTranspose2d(width, out, 2, stride=2)
        elif kind == "gate":
            self.conv = nn.Conv2d(width, width, 1)
        else:
            grouping = {"grouped": groups, "depthwise": width}.get(kind, 1)
            self.conv = nn.Conv2d(width, self.out, 3, padding=1, groups=grouping)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        match self.kind:
            case "residual":
                return F.relu(x + self.conv(y))
            case "concat":
                return torch.cat([self.conv(y), x], 1)
            case "chunk":
                value, gate = self.conv(y).chunk(2, 1)
                return value * torch.sigmoid(gate)
            case "shuffle":
                mixed = self.conv(y)
                batch, channels, height, width = mixed.shape
                parts = mixed.view(batch, self.groups, channels // self.groups, height, width)
                return parts.transpose(1, 2).reshape(batch, channels, height, width)
            case "gate":
                return x * torch.sigmoid(self.conv(y.mean((2, 3), keepdim=True)))
            case "up":
                return F.avg_pool2d(self.conv(y), 2)
            case _:
                return F.relu6(self.conv(y))


class Net(nn.Module):
    def __init__(self, blocks: list[Block], flat: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.blocks = nn.Sequential(*blocks)
        self.flat = flat
        self.head = nn.Linear(blocks[-1].out * (16 if flat else 1), 5)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.blocks(self.stem(x))
        return {"out": self.head(y.flatten(1) if self.flat else y.mean((2, 3)))}


@st.composite
def nets(draw: st.DrawFn) -> Net:
    blocks: list[Block] = []
    width = 8
    for kind in draw(st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=5)):
        out = 4 * draw(st.integers(1, 5))
        blocks.append(
            Block(kind, width, out, 2 if kind == "shuffle" else draw(st.sampled_from([2, 4])))
        )
        width = blocks[-1].out
    torch.manual_seed(draw(st.integers(0, 9)))
    net = Net(blocks, draw(st.booleans()))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for name, tensor in module.state_dict(keep_vars=True).items():
                if name != "num_batches_tracked":
                    nn.init.uniform_(tensor, 0.2, 0.8)
    return net.eval()


targets = st.one_of(
    st.floats(0.1, 0.9).map(lambda f: Target(channels=f)),
    st.floats(0.1, 0.9).map(lambda f: Target(macs=f)),
    st.floats(0.1, 0.9).map(lambda f: Target(params=f)),
)


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(nets(), targets, st.sampled_from([1, 4, 8]), st.sampled_from(["global", "layer"]))
def test_a_random_network_equals_the_original_zeroed(
    oracle: Callable[[nn.Module, Any, PruningPlan], Any],
    net: Net,
    target: Target,
    round_to: int,
    scope: str,
) -> None:
    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    try:
        plan = plan_channels(net, x, target, round_to=round_to, scope=scope)
    except (TargetUnreachable, UnsupportedError):
        return
    assert not any("fails its trial" in reason for reason in plan.frozen.values())
    pruned = plan.apply(net)
    with torch.no_grad():
        expected, found = oracle(net, x, plan)["out"], pruned(x)["out"]
    assert torch.allclose(found, expected, atol=1e-4 * max(1.0, float(expected.abs().max())))
    if target.quantity in ("macs", "params"):
        before, after = getattr(plan, target.quantity)
        assert after <= target.value * before

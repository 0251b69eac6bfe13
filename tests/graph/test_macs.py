import numpy as np
import pytest
import torch
from torch import nn

from torchcompress.graph import count_macs, layer_costs, trace
from torchcompress.graph.groups import channel_groups
from torchcompress.graph.macs import RemainingCost


@pytest.mark.parametrize(
    ("layer", "shape", "macs"),
    [
        (nn.Conv2d(3, 8, 3, padding=1), (2, 3, 6, 6), 2 * 36 * 8 * 3 * 9),
        (nn.Conv2d(8, 8, 3, groups=4, stride=2), (1, 8, 7, 7), 9 * 8 * 2 * 9),
        (nn.Conv2d(8, 8, 3, groups=8), (1, 8, 5, 5), 9 * 8 * 9),
        (nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2), (1, 4, 5, 5), 25 * 4 * 3 * 4),
        (nn.Conv1d(4, 6, 3), (2, 4, 10), 2 * 8 * 6 * 4 * 3),
        (nn.Linear(5, 7), (3, 5), 3 * 5 * 7),
        (nn.Linear(5, 7, bias=False), (3, 4, 5), 12 * 5 * 7),
    ],
)
def test_macs_of_a_layer_in_closed_form(
    layer: nn.Module, shape: tuple[int, ...], macs: int
) -> None:
    assert count_macs(layer, torch.randn(shape)) == macs


def test_costs_are_listed_by_layer_and_a_layer_called_twice_counts_twice() -> None:
    shared = nn.Conv2d(4, 4, 1)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), shared, shared)
    costs = {cost.name: cost for cost in layer_costs(model, torch.randn(1, 3, 5, 5))}
    assert list(costs) == ["0", "1"]
    assert costs["0"].macs == 25 * 12
    assert costs["1"].macs == 2 * 25 * 16
    assert (costs["1"].kind, costs["1"].params) == ("Conv2d", 20)
    assert costs["1"].weight_shape == (4, 4, 1, 1)
    assert costs["1"].output_shape == (1, 4, 5, 5)


class Heads(nn.Module):
    """A product over heads that a reshape makes: its batch axis has labels of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(6, 12)
        self.out = nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        heads = self.project(x).view(len(x), -1, 3, 4).transpose(1, 2)
        mixed = (heads @ heads.transpose(2, 3)) @ heads
        return self.out(mixed.transpose(1, 2).flatten(2))


def test_axes_that_a_reshape_makes_cost_too() -> None:
    x = torch.randn(2, 7, 6)
    model = Heads()
    seen = trace(model, x)
    linear = 2 * 7 * (6 * 12 + 12 * 5)
    products = 2 * 3 * (7 * 4 * 7 + 7 * 7 * 4)
    nothing = np.zeros(0, np.int64)
    assert RemainingCost(seen, set()).macs(nothing) == count_macs(model, x) == linear + products


def test_what_remains_is_what_a_smaller_model_costs() -> None:
    def net(width: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, width, 3),
            nn.BatchNorm2d(width),
            nn.Conv2d(width, width, 3, groups=width),
            nn.Conv2d(width, 6, 1),
        ).eval()

    x = torch.randn(1, 3, 8, 8)
    model = net(10)
    seen = trace(model, x)
    group = next(g for g in channel_groups(seen) if g.name == "0")
    cost = RemainingCost(seen, {name for name, _ in model.named_parameters()})
    gone = group.labels[:4]
    smaller = net(6)
    assert cost.macs(np.zeros(0, np.int64)) == count_macs(model, x)
    assert cost.macs(gone) == count_macs(smaller, x)
    assert cost.params(gone) == sum(p.numel() for p in smaller.parameters())


def test_channels_of_a_buffer_alone_cost_nothing() -> None:
    model = nn.BatchNorm2d(4, affine=False).eval()
    seen = trace(model, torch.randn(2, 4, 3, 3))
    gone = np.concatenate([group.labels for group in channel_groups(seen)])
    cost = RemainingCost(seen, set())
    assert len(gone) == 8
    assert cost.macs(gone) == cost.params(gone) == 0

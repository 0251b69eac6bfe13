"""A statistic that nobody reads says nothing about the channels that it is of."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from torchcompress.graph import channel_groups, trace

Use = Callable[[nn.Module, Tensor], Tensor | float]


class Observed(nn.Module):
    def __init__(self, use: Use) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 3)
        self.use = use
        self.seen: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        used = self.use(self, hidden)
        return self.last(hidden) + (used[..., None] if isinstance(used, Tensor) else used)


def dropped(model: nn.Module, hidden: Tensor) -> float:
    hidden.mean(-1)
    torch.var_mean(hidden, -1)[0].unsqueeze(0).squeeze()
    return 0.0


def held(model: nn.Module, hidden: Tensor) -> float:
    model.seen = hidden.mean(-1)
    return 0.0


def half_read(model: nn.Module, hidden: Tensor) -> Tensor:
    return torch.var_mean(hidden, -1)[1]


def through_a_view(model: nn.Module, hidden: Tensor) -> Tensor:
    return hidden.amax(-1, keepdim=True).squeeze(-1)


def as_a_number(model: nn.Module, hidden: Tensor) -> float:
    return hidden.mean().item()


def test_a_statistic_that_is_dropped_is_not_recorded() -> None:
    seen = trace(Observed(dropped), torch.randn(2, 4))
    assert seen.selections == []
    assert [group.inexact for group in channel_groups(seen)] == [None] * 3


@pytest.mark.parametrize("use", [held, half_read, through_a_view, as_a_number])
def test_a_statistic_that_is_read_or_kept_is_recorded(use: Use) -> None:
    seen = trace(Observed(use), torch.randn(2, 4))
    assert len(seen.selections) == 1
    groups = {group.name: group for group in channel_groups(seen)}
    assert groups["first"].inexact is not None

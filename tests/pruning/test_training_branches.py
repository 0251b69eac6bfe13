"""Branches of training that hold no parameters: the trial runs them too."""

import pytest
import torch
from torch import Tensor, nn

from torchcompress import Target
from torchcompress.pruning import plan_channels

x = torch.randn(2, 3, 8, 8)


class _Between(nn.Module):
    """A branch of training, without parameters, between two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 1)
        self.second = nn.Conv2d(16, 16, 1)
        self.head = nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.between(self.first(x))))

    def between(self, y: Tensor) -> Tensor:
        raise NotImplementedError


class SlicedInTraining(_Between):
    def between(self, y: Tensor) -> Tensor:
        return torch.cat([y[:, :4] * 0, y[:, 4:]], 1) if self.training else y


class SizedInTraining(_Between):
    def between(self, y: Tensor) -> Tensor:
        return y + torch.ones(16)[None, :, None, None] if self.training else y


class ScaledInTraining(_Between):
    def between(self, y: Tensor) -> Tensor:
        return y * 2 if self.training else y


class DroppedInTraining(_Between):
    def between(self, y: Tensor) -> Tensor:
        return nn.functional.dropout(y, 0.5) if self.training else y


def zeroed_and_pruned(model: nn.Module) -> tuple[dict[str, int], dict[str, str], Tensor, Tensor]:
    """Returns what is kept and frozen, and the outputs in train mode, zeroed and pruned."""
    torch.manual_seed(0)
    plan = plan_channels(model, x, Target(channels=0.5))
    pruned = plan.apply(model).train()(x)
    for name, dims in plan.removed.items():
        for dim, index in dims.items():
            model.get_parameter(name).data.index_fill_(int(dim), torch.tensor(index), 0)
    kept = {group.name: group.kept for group in plan.groups}
    return kept, dict(plan.frozen), model.train()(x), pruned


@pytest.mark.parametrize("kind", [SlicedInTraining, SizedInTraining])
def test_a_branch_of_training_that_no_cut_fits_freezes_what_it_reads(kind: type[_Between]) -> None:
    kept, frozen, zeroed, pruned = zeroed_and_pruned(kind())
    assert "in train mode" in frozen["first"]
    assert (kept["first"], kept["second"]) == (16, 8)
    torch.testing.assert_close(pruned, zeroed)


def test_a_branch_of_training_that_a_cut_fits_is_cut_along() -> None:
    kept, _, zeroed, pruned = zeroed_and_pruned(ScaledInTraining())
    assert (kept["first"], kept["second"]) == (8, 8)
    torch.testing.assert_close(pruned, zeroed)


def test_a_module_that_drops_in_training_is_pruned_as_before() -> None:
    kept, *_ = zeroed_and_pruned(DroppedInTraining())
    assert (kept["first"], kept["second"]) == (8, 8)


class Counting(nn.Module):
    """Keeps statistics of its own in train mode."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Buffer(torch.zeros(16))

    def forward(self, y: Tensor) -> Tensor:
        if self.training:
            self.mean.add_(y.mean((0, 2, 3)))
        return y - self.mean[:, None, None]


def test_planning_leaves_what_training_would_change() -> None:
    model = nn.Sequential(nn.Conv2d(3, 16, 1), Counting(), nn.Conv2d(16, 4, 1))
    plan_channels(model, x, Target(channels=0.5))
    assert not model.get_buffer("1.mean").any()

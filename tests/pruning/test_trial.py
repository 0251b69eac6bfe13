"""Models that no trace can see through: the trial finds what they hide."""

import pytest
import torch
from torch import Tensor, nn

from torchcompress import Target
from torchcompress.errors import UnsupportedError
from torchcompress.pruning import plan_channels

x = torch.randn(2, 3, 8, 8)


class HardCoded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 1)
        self.second = nn.Conv2d(16, 16, 1)
        self.third = nn.Conv2d(16, 16, 1)
        self.head = nn.Linear(16 * 64, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.first(x)).view(-1, 16, 8, 8)
        return self.head(self.third(x).flatten(1))


def test_a_size_in_the_code_is_found_by_the_trial_and_freezes_its_group_alone() -> None:
    plan = plan_channels(HardCoded(), x, Target(channels=0.5))
    assert "fails its trial" in plan.frozen["second"]
    assert "to have 8 channels, but got 16" in plan.frozen["second"]
    kept = {group.name: group.kept for group in plan.groups}
    assert (kept["first"], kept["second"], kept["third"]) == (8, 16, 8)


class Auxiliary(nn.Module):
    """A head that only runs in training, as in GoogLeNet."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 1)
        self.second = nn.Conv2d(16, 16, 1)
        self.third = nn.Conv2d(16, 4, 1)
        self.aux = nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        y = self.third(self.second(x))
        return y + self.aux(x) if self.training else y


def test_a_branch_that_only_runs_in_training_is_cut_along() -> None:
    plan = plan_channels(Auxiliary(), x, Target(channels=0.5))
    assert {g.name: g.kept for g in plan.groups if not g.frozen} == {"first": 8, "second": 8}
    assert plan.removed["aux.weight"] == {1: plan.removed["first.weight"][0]}
    plan.apply(Auxiliary()).train()(x).sum().backward()


class TrainedOnTargets(Auxiliary):
    """Training takes what the example input does not hold."""

    def forward(self, x: Tensor, target: Tensor | None = None) -> Tensor:
        if self.training and target is None:
            raise ValueError("no target")
        return super().forward(x)


def test_a_training_branch_that_cannot_be_tried_keeps_its_size() -> None:
    plan = plan_channels(TrainedOnTargets(), x, Target(channels=0.5))
    assert plan.frozen["aux.weight[1]"] == "was not used in the run"


class Sliced(nn.Module):
    """Runs after any cut, but then reads other channels than before."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 1)
        self.second = nn.Conv2d(16, 16, 1)
        self.head = nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.first(x)
        return self.head(self.second(a) * a.flip(1).flatten(1, 2).unflatten(1, (16, -1)).sigmoid())


def test_what_would_be_silently_wrong_is_refused_with_a_reason() -> None:
    with pytest.raises(UnsupportedError, match="no channel of the model can be pruned"):
        plan_channels(Sliced(), x, Target(channels=0.5))

"""Models whose path hangs on chance, on their own state or on gradients."""

import random

import pytest
import torch
from torch import Tensor, nn

from torchcompress.errors import TraceError
from torchcompress.graph import channel_groups, trace

x = torch.randn(2, 4)


class Chance(nn.Module):
    def __init__(self, source: str) -> None:
        super().__init__()
        self.source = source
        self.first, self.second, self.third = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        drawn = random.random() if self.source == "python" else float(torch.rand(()))
        return self.third(self.second(x) if drawn < 0.5 else x)


@pytest.mark.parametrize("source", ["python", "torch"])
def test_random_branches_are_refused_and_no_random_number_is_used_up(source: str) -> None:
    model = Chance(source)
    states = random.getstate(), torch.get_rng_state()
    with pytest.raises(TraceError, match="takes random branches in eval mode"):
        trace(model, x)
    assert random.getstate() == states[0]
    assert torch.equal(torch.get_rng_state(), states[1])


class Noisy(nn.Sequential):
    def forward(self, input: Tensor) -> Tensor:
        y = self[0](input)
        return self[1](y + torch.randn(2, 1))


def test_random_numbers_that_change_no_branch_are_fine() -> None:
    groups = channel_groups(trace(Noisy(nn.Linear(4, 8), nn.Linear(8, 3)), x))
    assert {g.name: g.frozen for g in groups}["0"] is None


class Differentiating(nn.Module):
    """An energy model: the output is a derivative."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x.requires_grad_()
        energy = self.second(self.first(x).tanh()).sum()
        return torch.autograd.grad(energy, x)[0]


def test_a_forward_pass_that_differentiates_runs_with_gradients() -> None:
    seen = trace(Differentiating(), x)
    assert seen.conditions.gradients
    assert seen.outputs == {"": (2, 4)}


class Caching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 3)
        self.last: Tensor | None = None
        self.calls: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.last = self.first(x)
        self.calls.append(1)
        return self.second(self.last)


def test_what_a_run_leaves_in_a_model_does_not_stay() -> None:
    model = Caching()
    trace(model, x)
    assert model.last is None
    assert model.calls == []
    model(x)
    trace(model, x)
    assert model.calls == [1]


def test_a_forward_pass_that_changes_weights_changes_none_of_the_callers() -> None:
    table = nn.Embedding(10, 8, max_norm=0.5)
    before = table.weight.detach().clone()
    assert trace(nn.Sequential(table, nn.Linear(8, 3)), torch.tensor([[1, 2]])).conditions.writes
    assert torch.equal(table.weight, before)

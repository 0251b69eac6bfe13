"""Finding the groups at fault, with failures that are known beforehand."""

import string

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from torchcompress import Target
from torchcompress.pruning import plan_channels
from torchcompress.pruning.proof import Proof
from torchcompress.pruning.search import find_culprits

NAMES = list(string.ascii_letters)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.sets(st.sampled_from(NAMES), min_size=1, max_size=8))
def test_all_that_fail_alone_are_found_at_once_and_nothing_else(bad: set[str]) -> None:
    trials: list[list[str]] = []

    def fails(part: list[str]) -> str | None:
        trials.append(part)
        worst = sorted(bad & set(part))
        return f"{worst[0]} is fixed" if worst else None

    found = find_culprits(NAMES, "together", fails)
    assert found == {name: f"{name} is fixed" for name in bad}
    assert len(trials) <= 12 * len(bad)


def test_neighbours_that_fail_cost_two_trials_each() -> None:
    trials: list[list[str]] = []

    def fails(part: list[str]) -> str | None:
        trials.append(part)
        return "fixed" if set(part) & set(NAMES[:16]) else None

    assert find_culprits(NAMES, "together", fails).keys() == set(NAMES[:16])
    assert len(trials) <= 2 * 16 + 4


def test_of_groups_that_only_fail_together_the_last_is_at_fault() -> None:
    pair = {"c", "T"}

    def fails(part: list[str]) -> str | None:
        return "too small" if pair <= set(part) else None

    assert find_culprits(NAMES, "too small", fails) == {"T": "together with others, too small"}


class Together(nn.Module):
    """Needs 24 channels of its two layers together."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(4, 16), nn.Linear(4, 16)
        self.out_left, self.out_right = nn.Linear(16, 3), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.left(x), self.right(x)
        if a.shape[1] + b.shape[1] < 24:
            raise ValueError("too narrow")
        return self.out_left(a) + self.out_right(b)


def test_a_combination_that_fails_ends_with_one_group_frozen() -> None:
    plan = plan_channels(Together(), torch.randn(2, 4), Target(channels=0.5))
    kept = {g.name: g.kept for g in plan.groups if g.name in ("left", "right")}
    assert kept == {"left": 8, "right": 16}
    assert "together with others, too narrow" in plan.frozen["right"]


class Fixed(nn.Sequential):
    """Every second layer's size stands in the code."""

    def forward(self, input: Tensor) -> Tensor:
        for position, layer in enumerate(self):
            input = layer(input).tanh()
            if position % 2:
                input = input.view(-1, 16)
        return input


def test_the_trials_of_a_model_with_many_faults_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[str] = []
    for name in ("misfit", "trial"):
        original = getattr(Proof, name)

        def counted(
            self: Proof, *args: object, name: str = name, original: object = original
        ) -> object:
            runs.append(name)
            assert callable(original)
            return original(self, *args)

        monkeypatch.setattr(Proof, name, counted)
    model = Fixed(*(nn.Linear(16, 16) for _ in range(20)))
    plan = plan_channels(model, torch.randn(2, 16), Target(channels=0.5))
    fixed = {name for name, why in plan.frozen.items() if "fails its trial" in why}
    assert fixed == {str(position) for position in range(1, 19, 2)}
    assert runs.count("trial") == 2
    assert runs.count("misfit") <= 40

import copy
import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from torchcompress import Target, history
from torchcompress.core.plan import plan_from_json, plan_to_json
from torchcompress.errors import ArtifactError, CompressError
from torchcompress.pruning import PruningPlan, plan_channels

x = torch.randn(2, 3, 8, 8)


def net(width: int = 16) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, groups=width // 4, padding=1),
        nn.Conv2d(width, 4, 1),
    ).eval()


@pytest.fixture
def plan() -> PruningPlan:
    return plan_channels(net(), x, Target(macs=0.5), round_to=1)


def test_a_plan_round_trips_through_json_text(plan: PruningPlan) -> None:
    again = plan_from_json(json.loads(json.dumps(plan_to_json(plan))))
    assert again == plan
    assert str(again) == str(plan)


def test_a_plan_read_from_json_makes_the_same_model(plan: PruningPlan) -> None:
    model = net()
    again = plan_from_json(json.loads(json.dumps(plan_to_json(plan))))
    assert torch.equal(again.apply(model)(x), plan.apply(model)(x))


def test_a_state_dict_goes_into_a_fresh_model_through_the_plan(plan: PruningPlan) -> None:
    trained = plan.apply(net())
    fresh = plan.apply(net())
    fresh.load_state_dict(trained.state_dict())
    assert torch.equal(fresh(x), trained(x))


def test_sizes_that_the_modules_repeat_are_mended(plan: PruningPlan) -> None:
    pruned = plan.apply(net())
    modules = dict(pruned.named_modules())
    first, norm, grouped = modules["0"], modules["1"], modules["3"]
    assert isinstance(first, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    assert isinstance(grouped, nn.Conv2d)
    assert first.out_channels == norm.num_features == grouped.in_channels
    assert grouped.in_channels == grouped.groups * grouped.weight.shape[1]
    assert grouped.groups < 4


def test_the_table_shows_every_group_the_totals_and_the_trial(plan: PruningPlan) -> None:
    table = str(plan)
    for group in plan.groups:
        assert group.name in table
    assert "frozen: reaches the output" in table
    assert f"MACs: {plan.macs[0]:,} -> {plan.macs[1]:,}" in table
    assert "frozen share of the parameters" in table
    assert "equals the original with the removed channels zeroed" in table


def test_an_inexact_group_is_named_and_its_norm_mended() -> None:
    model = nn.Sequential(nn.Linear(6, 16), nn.LayerNorm(16), nn.GELU(), nn.Linear(16, 5))
    plan = plan_channels(model, torch.randn(3, 6), Target(channels=0.5))
    assert plan.inexact == {"0": "is read whole by aten.native_layer_norm"}
    assert plan.mends["1"] == {"normalized_shape": [8]}
    assert "inexact: is read whole by aten.native_layer_norm" in str(plan)
    assert "or left out where a group is inexact" in str(plan)
    again = plan_from_json(json.loads(json.dumps(plan_to_json(plan))))
    assert again == plan
    norm = dict(again.apply(model).named_modules())["1"]
    assert isinstance(norm, nn.LayerNorm)
    assert norm.normalized_shape == (8,)


def test_another_architecture_is_refused_by_its_first_mismatch(plan: PruningPlan) -> None:
    with pytest.raises(CompressError, match=r"0\.weight: .*\(16, 3, 3, 3\).*\(32, 3, 3, 3\)"):
        plan.apply(net(32))
    with pytest.raises(CompressError, match=r"0\.weight: .*does not have"):
        plan.apply(nn.Linear(2, 2))


@pytest.mark.parametrize(
    "mends",
    [{"": {"eval": 1}}, {"0": {"padding_mode": "circular"}}, {"1": {"eps": 5.0}},
     {"3": {"groups": 0}}, {"0": {"out_channels": 99}}, {"9": {"groups": 1}},
     {"0": {"kernel_size": [3, 5]}}, {"0": {"kernel_size": 3}}],
    ids=str,
)  # fmt: skip
def test_a_plan_sets_nothing_but_smaller_sizes(plan: PruningPlan, mends: dict[str, Any]) -> None:
    with pytest.raises(CompressError, match="no smaller size"):
        replace(plan, mends=mends).apply(net())


def test_a_plan_is_not_applied_twice(plan: PruningPlan) -> None:
    with pytest.raises(CompressError, match="the plan was made for"):
        plan.apply(plan.apply(net()))


@pytest.mark.parametrize(
    "place", [{"dtype": torch.bfloat16}, {"dtype": torch.float64}, {"device": "meta"}], ids=str
)
def test_a_plan_is_applied_to_a_copy_of_another_dtype_or_device(
    plan: PruningPlan, place: dict[str, Any]
) -> None:
    found = plan.apply(net().to(**place)).state_dict()
    expected = plan.apply(net()).to(**place).state_dict()
    assert {n: (t.shape, t.dtype, t.device) for n, t in found.items()} == {
        n: (t.shape, t.dtype, t.device) for n, t in expected.items()
    }


def test_a_plan_that_does_not_fit_changes_nothing(plan: PruningPlan) -> None:
    model = net(32)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(CompressError):
        plan.apply(model, inplace=True)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_plans_follow_each_other_and_are_remembered_in_order(plan: PruningPlan) -> None:
    once = plan.apply(net())
    second = plan_channels(once, x, Target(macs=0.5), round_to=1)
    twice = second.apply(once)
    assert history(twice) == (plan, second)
    fresh = net()
    for step in history(twice):
        fresh = step.apply(fresh)
    assert {n: t.shape for n, t in fresh.state_dict().items()} == {
        n: t.shape for n, t in twice.state_dict().items()
    }


@pytest.mark.parametrize(
    ("field", "value"),
    [("macs", [1]), ("groups", "abc"), ("groups", [{}]), ("mends", None), ("params", "ab"),
     ("params", [1, 2.5]), ("removed", {"0.weight": {"zero": [1]}}), ("frozen_share", "x"),
     ("shapes", {"0.weight": "ab"}), ("latency", {}), ("parameters", [1])],
)  # fmt: skip
def test_a_field_of_another_type_is_named(plan: PruningPlan, field: str, value: Any) -> None:
    with pytest.raises(ArtifactError, match=rf"plan\.{field}"):
        plan_from_json({**plan_to_json(plan), field: value})


def test_a_field_that_is_missing_is_named(plan: PruningPlan) -> None:
    data = plan_to_json(plan)
    for field in ("target", "groups", "removed", "mends", "shapes", "macs", "params"):
        with pytest.raises(ArtifactError, match=rf"plan\.{field}: Field required"):
            plan_from_json({name: value for name, value in data.items() if name != field})


class Read(nn.Module):
    """A network, and where asked one more reader of its first layer."""

    def __init__(self, more: bool) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(8, 16), nn.Linear(16, 4)
        self.aux = nn.Linear(16, 3) if more else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.stem(x))


def test_a_model_with_one_more_reader_is_refused() -> None:
    plan = plan_channels(Read(False), torch.randn(2, 8), Target(channels=0.5))
    other = Read(True)
    with pytest.raises(CompressError, match=r"aux\.weight: .* no such parameter"):
        plan.apply(other, inplace=True)
    assert other.stem.weight.shape == (16, 8)
    for same in (Read(False), torch.compile(Read(False)), torch.fx.symbolic_trace(Read(False))):
        assert plan.apply(same).get_parameter("stem.weight").shape == (8, 8)  # pyright: ignore

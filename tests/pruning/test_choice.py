import inspect
import itertools
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

from torchcompress import Target
from torchcompress.core.plan import plan_from_json, plan_to_json
from torchcompress.errors import CompressError, TargetUnreachable
from torchcompress.graph.groups import Group
from torchcompress.pruning import plan_channels
from torchcompress.pruning.channels import PlanOptions
from torchcompress.pruning.importance import IMPORTANCES, Magnitude


def chain(*widths: int) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[-1] * 64, 5)).eval()


x = torch.randn(2, 3, 8, 8)
DATA = [(x, torch.tensor([1, 3]))]


def kept(model: nn.Module, target: Target, **options: Any) -> dict[str, int]:
    plan = plan_channels(model, x, target, prove=False, **options)
    return {group.name: group.kept for group in plan.groups if not group.frozen}


def test_a_function_passes_on_every_option_of_a_plan() -> None:
    parameters = inspect.signature(plan_channels).parameters.values()
    keywords = {p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
    assert keywords == PlanOptions.__annotations__.keys()


@pytest.mark.parametrize("importance", IMPORTANCES)
def test_every_importance_has_a_name_and_meets_the_target(importance: str) -> None:
    model = chain(3, 32, 32)
    plan = plan_channels(model, x, Target(macs=0.5), importance=importance, round_to=1, data=DATA)
    assert 0.48 * plan.macs[0] <= plan.macs[1] <= 0.5 * plan.macs[0]
    assert plan.difference is not None


def test_a_function_may_say_what_matters() -> None:
    def backwards(groups: list[Group], tensors: dict[str, Tensor]) -> dict[str, Any]:
        assert tensors["0.weight"].shape == (16, 3, 3, 3)
        return {group.name: torch.arange(group.units).flip(0) for group in groups}

    plan = plan_channels(chain(3, 16, 16), x, Target(channels=0.5), importance=backwards)
    assert plan.removed["0.weight"] == {0: list(range(8, 16))}


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({}, "importance of 0: the function gives no scores"),
        ({"0": np.ones(3)}, r"shape \(3,\), not \(16,\)"),
        ({"0": np.full(16, np.nan)}, "gives NaN"),
    ],
)
def test_a_function_that_says_too_little_is_refused(scores: Any, message: str) -> None:
    with pytest.raises(CompressError, match=message):
        plan_channels(chain(3, 16), x, Target(channels=0.5), importance=lambda *_: scores)


def test_what_is_no_importance_is_refused() -> None:
    for wrong in (Magnitude, 2):
        with pytest.raises(CompressError, match="neither a name, an importance nor a function"):
            plan_channels(chain(3, 16), x, Target(channels=0.5), importance=wrong)  # pyright: ignore[reportArgumentType]


def test_a_layer_may_have_a_ratio_of_its_own() -> None:
    model = chain(3, 32, 32, 32)
    assert kept(model, Target(channels=0.5), ratios={"3": 0.25}) == {"0": 16, "3": 8, "6": 16}
    plan = plan_channels(model, x, Target(macs=0.5), ratios={"3": 0.75}, round_to=1)
    assert {g.name: g.kept for g in plan.groups}["3"] == 24
    assert 0.48 * plan.macs[0] <= plan.macs[1] <= 0.5 * plan.macs[0]


def test_a_cap_holds_in_every_scope() -> None:
    model = chain(3, 32, 32, 32)
    with torch.no_grad():
        model.get_parameter("3.weight").mul_(1e-3)
        model.get_parameter("4.weight").mul_(1e-3)
    importance = Magnitude(normalize="none", reduce="first")
    for scope in ("global", "layer", "isomorphic"):
        left = kept(
            model, Target(channels=0.6), scope=scope, importance=importance, max_removed=0.5,
            round_to=1,
        )  # fmt: skip
        assert min(left.values()) >= 16
        assert sum(left.values()) <= 58
    with pytest.raises(TargetUnreachable, match=r"ask for channels=0\.5 or more"):
        kept(model, Target(channels=0.4), max_removed=0.5)


def test_where_rounding_gives_way_is_noted_and_stored() -> None:
    model = chain(3, 20, 20)
    plan = plan_channels(model, x, Target(channels=0.5), max_removed=0.5, scope="global")
    assert sum(group.kept for group in plan.groups if not group.frozen) == 20
    assert plan.notes == dict.fromkeys(("0", "3"), "keeps 10, round_to=8 gives way")
    assert "keeps 10, round_to=8 gives way" in str(plan)
    assert plan_from_json(plan_to_json(plan)) == plan


def test_a_group_without_batch_norm_is_noted() -> None:
    model = nn.Sequential(*chain(3, 16), nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 2)).eval()
    plan = plan_channels(model, x, Target(channels=0.5), importance="bn")
    assert plan.notes["5"] == "no batch norm: ranked by magnitude"


def test_an_unreachable_target_says_how_far_and_what_holds_it() -> None:
    model = chain(3, 16, 64)
    with pytest.raises(TargetUnreachable) as caught:
        plan_channels(model, x, Target(params=0.01), exclude=["3"])
    assert "most is held by: 3 3 is excluded" in str(caught.value)
    fraction = float(str(caught.value).partition("params=")[2].partition("=")[2].split()[0])
    plan = plan_channels(model, x, Target(params=fraction), exclude=["3"])
    assert plan.params[1] <= fraction * plan.params[0]
    with pytest.raises(TargetUnreachable):
        plan_channels(model, x, Target(params=fraction - 0.002), exclude=["3"])


@pytest.mark.parametrize("scope", ["global", "layer", "isomorphic"])
@pytest.mark.parametrize("quantity", ["macs", "params", "channels"])
def test_what_remains_falls_with_the_target_in_every_scope(scope: str, quantity: str) -> None:
    model = torchvision.models.resnet18(weights=None, num_classes=10)
    left = []
    for fraction in (0.75, 0.5, 0.2):
        target = Target(**{quantity: fraction})
        plan = plan_channels(model, torch.randn(1, 3, 32, 32), target, scope=scope, prove=False)
        free = [group for group in plan.groups if not group.frozen]
        channels = sum(g.channels for g in free), sum(g.kept for g in free)
        before, after = channels if quantity == "channels" else getattr(plan, quantity)
        assert after <= fraction * before
        if (quantity, scope) != ("channels", "layer"):
            assert after >= (fraction - 0.02) * before
        assert all(group.kept >= 1 for group in free)
        left.append(after)
    assert left == sorted(left, reverse=True)

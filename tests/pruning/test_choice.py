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
from torchcompress.errors import CompressError, TargetUnreachable, UnsupportedError
from torchcompress.graph.groups import Group
from torchcompress.pruning import plan_channels
from torchcompress.pruning.channels import PlanOptions
from torchcompress.pruning.importance import IMPORTANCES, Evidence, Magnitude, Scores


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
        ({}, "importance of 0: it gives no scores"),
        ({"0": np.ones(3)}, r"shape \(3,\), not \(16,\)"),
        ({"0": np.full(16, np.nan)}, "gives NaN"),
    ],
)
def test_a_function_that_says_too_little_is_refused(scores: Any, message: str) -> None:
    with pytest.raises(CompressError, match=message):
        plan_channels(chain(3, 16), x, Target(channels=0.5), importance=lambda *_: scores)


@pytest.mark.parametrize(
    ("scores", "message"),
    [({}, "no scores"), ({"0": np.ones(3)}, "shape"), ({"0": np.full(16, np.nan)}, "NaN")],
)
def test_an_importance_that_says_too_little_is_refused(scores: Any, message: str) -> None:
    class Own(Magnitude):
        def scores(self, evidence: Evidence) -> Scores:
            return scores

    with pytest.raises(CompressError, match=message):
        plan_channels(chain(3, 16), x, Target(channels=0.5), importance=Own())


def test_a_loss_without_finite_gradients_is_refused() -> None:
    with pytest.raises(CompressError, match="NaN"):
        plan_channels(
            chain(3, 16), x, Target(channels=0.5), importance="taylor", data=DATA,
            loss=lambda out, _: (out * 0).abs().sqrt().sum(),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("widths", "fraction", "options", "least"),
    [
        ((32, 64), 0.5, {"ratios": {"0": 1.0}}, 48),
        ((20, 40), 0.75, {}, 38),
        ((4, 27), 0.6, {"round_to": 4}, 15),
        ((32, 64), 0.32, {"max_removed": 0.71}, 29),
        ((10, 20), 0.3, {"max_removed": 0.7, "round_to": 1}, 9),
    ],
)
def test_channels_of_each_layer_meet_the_target_from_below(
    widths: tuple[int, int], fraction: float, options: dict[str, Any], least: int
) -> None:
    left = sum(kept(chain(3, *widths), Target(channels=fraction), **options).values())
    assert least <= left <= fraction * sum(widths)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"min_channels": 32}, "relax min_channels=32"),
        ({"ratios": {"*": 1.0}}, "relax ratios"),
        ({"max_removed": 0.7}, "relax max_removed=0.7"),
    ],
)
def test_a_limit_above_the_target_is_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(TargetUnreachable, match=named) as caught:
        kept(chain(3, 32, 64), Target(channels=0.25), **options)
    assert "exclude" not in str(caught.value)


def test_a_model_without_what_the_target_counts_is_refused() -> None:
    model = chain(3, 16)
    for module in model.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            delattr(module, name)
            module.register_buffer(name, weight.detach())
    with pytest.raises(UnsupportedError, match="the model has 0 params"):
        plan_channels(model, x, Target(params=0.5))
    plan = plan_channels(model, x, Target(channels=0.5))
    assert plan.removed["0.weight"][0]
    assert plan.params == (0, 0)


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


def test_a_model_whose_layers_are_all_excluded_is_told_to_exclude_less() -> None:
    with pytest.raises(UnsupportedError, match="-> exclude less"):
        plan_channels(chain(3, 16), x, Target(macs=0.5), exclude=["*"])

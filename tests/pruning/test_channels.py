import copy
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn.utils import prune

from torchcompress import Target, history
from torchcompress.errors import (
    CalibrationError,
    CompressError,
    TargetUnreachable,
    TraceError,
    UnsupportedError,
)
from torchcompress.graph import count_macs
from torchcompress.pruning import PruningPlan, plan_channels, prune_channels

Oracle = Callable[[nn.Module, Any, PruningPlan], Any]


def randomise(model: nn.Module) -> nn.Module:
    """Gives every batch norm statistics of its own, so that no channel is zero by accident."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for name, tensor in module.state_dict(keep_vars=True).items():
                if name in ("weight", "bias", "running_mean"):
                    nn.init.uniform_(tensor, 0.2, 0.8)
    return model.eval()


def chain(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[-1] * 64, 5)).eval()


x = torch.randn(2, 3, 8, 8)
FAMILIES = ["resnet18", "mobilenet_v2", "mobilenet_v3_small", "densenet121", "shufflenet_v2_x0_5"]


@pytest.mark.parametrize("arch", FAMILIES)
def test_a_family_at_half_its_macs_equals_the_original_zeroed(arch: str, oracle: Oracle) -> None:
    torch.manual_seed(0)
    model = randomise(torchvision.models.get_model(arch, weights=None, num_classes=10))
    image = torch.randn(2, 3, 64, 64)
    plan = plan_channels(model, image, Target(macs=0.5))
    pruned = plan.apply(model)
    with torch.no_grad():
        expected, found = oracle(model, image, plan), pruned(image)
    assert torch.allclose(found, expected, atol=1e-4 * float(expected.abs().max()))
    assert plan.macs == (count_macs(model, image), count_macs(pruned, image))
    assert 0.48 * plan.macs[0] <= plan.macs[1] <= 0.5 * plan.macs[0]
    assert plan.params[1] == sum(p.numel() for p in pruned.parameters())
    assert plan.frozen_share < 0.01
    assert plan.difference is not None
    assert plan.difference < 1e-5
    pruned.train()(image).sum().backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in pruned.parameters())


@pytest.mark.parametrize(
    ("kept", "left"), [(0.9, [16, 8]), (0.6, [8, 8]), (0.3, [4, 4]), (0.07, [1, 1])]
)
def test_a_channel_target_is_rounded_down_and_never_to_nothing(
    kept: float, left: list[int]
) -> None:
    plan = plan_channels(chain(3, 16, 16), x, Target(channels=kept))
    assert [g.kept for g in plan.groups if not g.frozen] == left


def test_without_rounding_a_ratio_is_met_to_the_channel() -> None:
    plan = plan_channels(chain(3, 10, 16), x, Target(channels=0.1), round_to=1)
    assert [g.kept for g in plan.groups if not g.frozen] == [1, 1]


def test_what_remains_falls_with_the_target_and_meets_it() -> None:
    model = chain(3, 32, 64, 64)
    left = [plan_channels(model, x, Target(macs=f)).macs for f in (0.75, 0.5, 0.25, 0.1)]
    for (before, after), fraction in zip(left, (0.75, 0.5, 0.25, 0.1), strict=True):
        assert after <= fraction * before
    assert left == sorted(left, reverse=True)


def test_a_weak_layer_is_not_emptied_and_a_strong_one_not_spared() -> None:
    model = chain(3, 32, 32, 32)
    with torch.no_grad():
        model.get_parameter("2.weight").mul_(1e-3)
        model.get_parameter("2.bias").mul_(1e-3)
    plan = plan_channels(model, x, Target(channels=0.4), scope="global", round_to=1)
    kept = [g.kept for g in plan.groups if not g.frozen]
    assert sum(kept) == 38
    assert all(1 <= k < 32 for k in kept)


def test_equal_scores_do_not_all_go_together() -> None:
    model = chain(3, 16, 16)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.1)
    plan = plan_channels(model, x, Target(channels=0.5), scope="global", round_to=1)
    assert sum(g.kept for g in plan.groups if not g.frozen) == 16


def test_the_weakest_channels_go() -> None:
    model = chain(3, 16, 16)
    with torch.no_grad():
        model.get_parameter("0.weight")[[2, 5, 7]] *= 0.01
        model.get_parameter("2.weight")[:, [2, 5, 7]] *= 0.01
    plan = plan_channels(model, x, Target(channels=0.85), round_to=1)
    assert plan.removed["0.weight"] == {0: [2, 5, 7]}
    assert plan.removed["0.bias"] == {0: [2, 5, 7]}
    assert plan.removed["2.weight"][1] == [2, 5, 7]


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("quantity", ["macs", "params"])
def test_absolute_targets_are_met(scope: str, quantity: str) -> None:
    model = chain(3, 32, 64)
    plan = plan_channels(model, x, Target(**{quantity: 20000}), scope=scope, round_to=1)
    assert getattr(plan, quantity)[1] <= 20000
    assert getattr(plan, quantity)[1] >= 0.9 * 20000


def test_excluded_layers_keep_their_channels() -> None:
    plan = plan_channels(chain(3, 16, 16), x, Target(channels=0.5), exclude=["2"])
    assert {g.name: g.kept for g in plan.groups if g.name in ("0", "2")} == {"0": 8, "2": 16}
    assert plan.frozen["2"] == "2 is excluded"


def test_a_model_keeps_its_modes_dtypes_formats_ties_and_hooks() -> None:
    model = chain(3, 16, 16).double()
    model.get_parameter("2.weight").data = model.get_parameter("2.weight").data.contiguous(
        memory_format=torch.channels_last
    )
    model.get_parameter("0.weight").requires_grad_(False)
    model[2].train()
    seen: list[int] = []
    model[2].register_forward_hook(lambda *_: seen.append(1))
    pruned = prune_channels(model, x.double(), Target(channels=0.5))
    assert not pruned.get_parameter("0.weight").requires_grad
    assert pruned.get_parameter("2.weight").requires_grad
    assert [m.training for m in pruned] == [m.training for m in model]
    assert pruned.get_parameter("2.weight").dtype == torch.float64
    assert pruned.get_parameter("2.weight").is_contiguous(memory_format=torch.channels_last)
    seen.clear()
    pruned(x.double())
    assert seen == [1]
    assert model.get_parameter("2.weight").shape == (16, 16, 3, 3)


def test_a_channels_last_network_is_pruned_like_any_other() -> None:
    model = torchvision.models.resnet18(weights=None, num_classes=10).eval()
    image = torch.randn(1, 3, 64, 64)
    expected = plan_channels(model, image, Target(macs=0.5), prove=False)
    model.to(memory_format=torch.channels_last)
    found = plan_channels(model, image.to(memory_format=torch.channels_last), Target(macs=0.5))
    assert found.frozen == expected.frozen
    assert found.removed == expected.removed


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Linear(8, 16, bias=False)
        self.middle = nn.Linear(16, 16)
        self.decode = nn.Linear(16, 16, bias=False)
        self.decode.weight = self.middle.weight
        self.out = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.decode(self.middle(self.encode(x)).relu()))


def test_tied_weights_stay_tied() -> None:
    pruned = prune_channels(Tied(), torch.randn(2, 8), Target(channels=0.5))
    assert pruned.decode.weight is pruned.middle.weight
    assert pruned.decode.in_features == pruned.decode.weight.shape[1] == 8


def test_in_place_an_optimizer_keeps_every_parameter() -> None:
    model = chain(3, 16, 16).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(x).sum().backward()
    assert prune_channels(model, x, Target(channels=0.5), inplace=True) is model
    held = optimizer.param_groups[0]["params"]
    assert all(a is b for a, b in zip(held, model.parameters(), strict=True))
    assert all(p.grad is not None and p.grad.shape == p.shape for p in model.parameters())
    optimizer.step()


def test_a_pruned_model_exports_and_copies() -> None:
    pruned = prune_channels(chain(3, 16, 16), x, Target(channels=0.5))
    expected = pruned(x)
    assert torch.equal(copy.deepcopy(pruned)(x), expected)
    exported = torch.export.export(pruned, (x,)).module()
    assert torch.allclose(exported(x), expected, atol=1e-6)
    assert len(history(copy.deepcopy(pruned))) == 1


def test_weights_that_are_computed_are_cut_or_frozen_never_a_crash() -> None:
    model = chain(3, 16, 16)
    prune.l1_unstructured(model[0], "weight", 0.5)
    pruned = prune_channels(model, x, Target(channels=0.5))
    assert pruned(x).shape == (2, 5)
    assert pruned.get_parameter("2.weight").shape[0] == 8


def test_a_forward_that_changes_its_input_changes_nothing_of_ours() -> None:
    class Shifting(nn.Sequential):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input.sub_(0.5))

    image = torch.randn(2, 3, 8, 8)
    before = image.clone()
    plan = plan_channels(Shifting(*chain(3, 16, 16)), image, Target(channels=0.5))
    assert torch.equal(image, before)
    assert plan.frozen.keys() <= {"0.weight[1]", "5"}


def test_channels_that_are_always_zero_are_reported_not_tested() -> None:
    model = chain(3, 8, 8)
    with torch.no_grad():
        model.get_parameter("0.bias").sub_(100)
    plan = plan_channels(model, x, Target(channels=0.5), round_to=1)
    assert plan.untested == ("0",)
    assert "not tested" in str(plan)


def test_calibration_that_fails_leaves_an_in_place_model_whole() -> None:
    model = chain(3, 16, 16)
    with pytest.raises(CalibrationError):
        prune_channels(model, x, Target(channels=0.5), calibration=[], inplace=True)
    assert model.get_parameter("0.weight").shape == (16, 3, 3, 3)


@pytest.mark.parametrize("inplace", [False, True])
def test_with_calibration_what_remains_is_closer_to_the_original(inplace: bool) -> None:
    torch.manual_seed(0)
    model = chain(3, 16, 16)
    batches = [(torch.randn(8, 3, 8, 8), 0) for _ in range(4)]
    image = torch.cat([inputs for inputs, _ in batches])
    expected = model(image)
    plain = prune_channels(model, x, Target(channels=0.75))
    fitted = prune_channels(model, x, Target(channels=0.75), calibration=batches, inplace=inplace)
    assert (fitted is model) == inplace
    assert (fitted(image) - expected).norm() < 0.9 * (plain(image) - expected).norm()
    assert len(history(fitted)) == 1


def test_no_proof_is_said() -> None:
    plan = plan_channels(chain(3, 16), x, Target(channels=0.5), prove=False)
    assert plan.difference is None
    assert "trial: not run" in str(plan)


def test_a_plan_that_takes_nothing_says_so() -> None:
    plan = plan_channels(chain(3, 16), x, Target(macs=1.0))
    assert not plan.removed
    assert "nothing goes: the model meets macs=1 as it is" in str(plan)


def test_inputs_may_be_a_tuple_or_a_dict() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 16), nn.Linear(6, 16)
            self.out = nn.Linear(16, 3)

        def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, list[Tensor]]:
            y = self.out(self.a(left) + self.b(right))
            return y, [y]

    left, right = torch.randn(2, 4), torch.randn(2, 6)
    for inputs in ((left, right), {"left": left, "right": right}):
        plan = plan_channels(Two(), inputs, Target(channels=0.5))
        assert plan.removed["a.weight"] == plan.removed["b.weight"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"target": Target(sparsity=0.5)}, UnsupportedError, "cannot be pruned to sparsity"),
        ({"target": Target(macs=0.0001)}, TargetUnreachable, r"ask for macs=0\.\d+ or more"),
        ({"target": Target(macs=1e12)}, CompressError, "more than the model has"),
        ({"exclude": ["layer9*"]}, CompressError, "matches nothing"),
        ({"importance": "magnitud"}, CompressError, "did you mean 'magnitude'"),
        ({"scope": "locl"}, CompressError, "not a scope"),
        ({"round_to": 0}, CompressError, "round_to: 0 is below 1"),
        ({"min_channels": 0}, CompressError, "min_channels"),
        ({"x": torch.randn(1, 4, 8, 8)}, TraceError, "fails on the example input"),
        ({"x": x * float("nan")}, TraceError, "the example input is not finite"),
    ],
)
def test_bad_input(arguments: dict[str, Any], error: type[CompressError], message: str) -> None:
    call: dict[str, Any] = {"x": x, "target": Target(channels=0.5), **arguments}
    with pytest.raises(error, match=message):
        plan_channels(chain(3, 16, 16), **call)


def test_weights_that_are_not_finite_are_refused() -> None:
    model = chain(3, 16, 16)
    with torch.no_grad():
        model.get_parameter("2.weight")[0, 0, 0, 0] = float("nan")
    with pytest.raises(CompressError, match=r"2\.weight: holds NaN"):
        plan_channels(model, x, Target(channels=0.5))


def test_a_model_without_anything_to_prune_is_an_error() -> None:
    with pytest.raises(UnsupportedError, match="no channel of the model can be pruned"):
        plan_channels(nn.Linear(8, 4), torch.randn(2, 8), Target(channels=0.5))

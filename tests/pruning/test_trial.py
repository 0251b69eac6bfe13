"""Models that no trace can see through: the trial finds what they hide."""

import threading
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from torchcompress import Target
from torchcompress.errors import TraceError, UnsupportedError
from torchcompress.graph import trace
from torchcompress.graph.labels import Labels
from torchcompress.graph.rules import registry
from torchcompress.pruning import plan_channels
from torchcompress.pruning.proof import Proof

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


DETECTORS = {
    "fasterrcnn_mobilenet_v3_large_320_fpn": {"min_size": 64, "max_size": 64},
    "ssdlite320_mobilenet_v3_large": {},
}


@pytest.mark.parametrize("arch", DETECTORS)
def test_a_detector_is_compared_where_it_decides(arch: str) -> None:
    torch.manual_seed(0)
    model = torchvision.models.get_model(
        arch, weights=None, weights_backbone=None, num_classes=3, **DETECTORS[arch]
    ).eval()
    image = ([torch.rand(3, 64, 64)],)
    plan = plan_channels(model, image, Target(channels=0.5))
    assert plan.difference is not None
    assert 0 < plan.difference < 1e-4
    assert plan.frozen_share < 0.2
    pruned = plan.apply(model)
    with torch.no_grad():
        assert pruned(*image)[0].keys() == model(*image)[0].keys()


def test_a_fault_in_a_detector_is_found_though_it_finds_no_box() -> None:
    torch.manual_seed(0)
    arch = "fasterrcnn_mobilenet_v3_large_320_fpn"
    model = torchvision.models.get_model(
        arch, weights=None, weights_backbone=None, box_score_thresh=0.99, **DETECTORS[arch]
    ).eval()
    image = ([torch.rand(3, 64, 64)],)
    with torch.no_grad():
        assert model(*image)[0]["boxes"].numel() == 0

    def spoil(pruned: nn.Module) -> None:
        bias = pruned.get_parameter("rpn.head.cls_logits.bias")
        bias.data = bias.data + 0.1

    proof = Proof(model, image, trace(model, image))
    assert "aten.topk" in str(proof.trial(set(), spoil).failure)
    assert proof.trial(set(), lambda pruned: None).failure is None


def test_a_rule_that_drops_labels_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The teeth of the trial: were a rule wrong, the cut would be refused."""

    class Mixing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 16, 1)
            self.second = nn.Conv2d(16, 16, 1)
            self.head = nn.Conv2d(16, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.first(x)
            return self.head(self.second(y) + y.tanh().flip(1))

    def dropping(ctx: Any, args: Any, kwargs: Any, out: Any) -> None:
        ctx.set(out, Labels.none(out.dim(), neutral=True))

    sound = plan_channels(Mixing(), x, Target(channels=0.5))
    assert {g.name for g in sound.groups if not g.frozen} == {"first"}
    monkeypatch.setitem(registry._RULES, "aten.tanh", dropping)
    with pytest.raises(UnsupportedError, match="fails its trial"):
        plan_channels(Mixing(), x, Target(channels=0.5))


class Permuting(nn.Module):
    """A residual branch whose channels meet in another order, behind a scale that starts at 0."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 1)
        self.scale = nn.Parameter(torch.zeros(1))
        self.gain = nn.Parameter(torch.full((16, 1, 1), 1e-6))
        self.head = nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        return self.head(y + self.gain * y.roll(1, 1).tanh())


def test_a_branch_that_starts_at_zero_hides_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def still(ctx: Any, args: Any, kwargs: Any, out: Any) -> None:
        ctx.set(out, ctx.labels(args[0]))

    monkeypatch.setitem(registry._RULES, "aten.roll", still)
    with pytest.raises(UnsupportedError, match="fails its trial"):
        plan_channels(Permuting(), x, Target(channels=0.5))


class NamesAType(nn.Module):
    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.first = nn.Linear(8, 16, dtype=dtype)
        self.second = nn.Linear(16, 4, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x.to(self.dtype)).relu()).float()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.float32])
def test_a_model_that_names_a_type_is_tried_in_it(dtype: torch.dtype) -> None:
    plan = plan_channels(NamesAType(dtype), torch.randn(2, 8), Target(channels=0.5))
    assert {g.name: g.kept for g in plan.groups if not g.frozen} == {"first": 8}
    assert plan.difference is not None


def test_a_domain_that_noise_leaves_is_no_failure() -> None:
    class Logarithm(nn.Sequential):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input.log())

    model = Logarithm(nn.Linear(8, 16), nn.Linear(16, 4))
    plan = plan_channels(model, torch.rand(2, 8) + 0.5, Target(channels=0.5))
    assert plan.difference is not None
    assert plan.difference < 1e-5


def test_a_model_without_an_answer_cannot_be_proved() -> None:
    class Silent(nn.Sequential):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input)[:, :0]

    with pytest.raises(TraceError, match="empty or not finite"):
        plan_channels(
            Silent(nn.Linear(8, 16), nn.Linear(16, 4)), torch.rand(2, 8), Target(macs=0.5)
        )


def test_a_model_that_cannot_be_copied_is_a_clear_error() -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 4))
    model.register_module("locked", nn.Identity())
    vars(model)["lock"] = threading.Lock()
    with pytest.raises(UnsupportedError, match="cannot be copied: cannot pickle"):
        plan_channels(model, torch.rand(2, 8), Target(macs=0.5))


def test_a_result_kept_in_the_model_is_copied() -> None:
    class Keeping(nn.Sequential):
        kept: Tensor

        def forward(self, input: Tensor) -> Tensor:
            self.kept = self[0](input)
            return self[1](self.kept)

    model = Keeping(nn.Linear(8, 16), nn.Linear(16, 4))
    model(torch.rand(2, 8))
    kept = model.kept
    plan = plan_channels(model, torch.rand(2, 8), Target(channels=0.5))
    assert model.kept is kept
    assert plan.apply(model)(torch.rand(2, 8)).shape == (2, 4)


class Chaos(nn.Module):
    """Blows a difference up two times in each of its steps."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.weight = nn.Linear(8, 301), nn.Parameter(torch.randn(4, 301) / 20)

    def forward(self, x: Tensor) -> Tensor:
        x = (self.first(x).unsqueeze(1) * self.weight).sum(2).sigmoid()
        for _ in range(20):
            x = 4 * x * (1 - x)
        return x


def test_rounding_that_a_model_blows_up_is_told_from_a_wrong_cut() -> None:
    torch.manual_seed(0)
    model, x = Chaos(), torch.randn(16, 8)
    plan = plan_channels(model, x, Target(channels=0.55), round_to=1)
    pruned, gone = plan.apply(model), plan.removed["weight"][1]
    with torch.no_grad():
        model.weight[:, gone] = 0
        assert (model(x) - pruned(x)).abs().max() > 1e-4
        assert torch.allclose(model.double()(x.double()), pruned.double()(x.double()), atol=1e-6)
    assert plan.difference is not None
    assert plan.difference < 1e-6


def test_trials_leave_every_tensor_of_the_model_as_it_was() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 16, 1),
        nn.BatchNorm2d(16),
        nn.utils.parametrizations.weight_norm(nn.Conv2d(16, 16, 1)),
        nn.Flatten(),
        nn.Linear(16 * 64, 4),
    )
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    places = {name: p.data_ptr() for name, p in model.named_parameters()}
    plan_channels(model, x, Target(channels=0.5))
    assert {name: p.data_ptr() for name, p in model.named_parameters()} == places
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


class Shuffles(nn.Module):
    """Shuffles whose groups the code counts, so that no channel of theirs can go."""

    def __init__(self, *groups: int) -> None:
        super().__init__()
        self.first, self.last, self.groups = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1), groups

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for groups in self.groups:
            batch, channels, *sizes = x.shape
            x = x.view(batch, groups, channels // groups, *sizes)
            x = x.transpose(1, 2).reshape(batch, channels, *sizes)
        return self.last(x)


@pytest.mark.parametrize("groups", [(8,), (4, 2)])
def test_groups_that_the_code_counts_stay(groups: tuple[int, ...]) -> None:
    with pytest.raises(UnsupportedError, match="first fails its trial"):
        plan_channels(Shuffles(*groups), x, Target(channels=0.5), round_to=1)
    plan = plan_channels(Shuffles(4), x, Target(channels=0.5), round_to=1)
    assert plan.removed["first.weight"][0] in ([0, 2, 4, 6], [1, 3, 5, 7])

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torchcompress import Target
from torchcompress.errors import CalibrationError
from torchcompress.pruning import PruningPlan, plan_channels
from torchcompress.reconstruction import resolve_consumers

torch.manual_seed(0)
BATCHES = [(torch.randn(32, 3, 6, 6), 0) for _ in range(4)]
x = BATCHES[0][0]


def copied_channels(model: nn.Sequential) -> nn.Sequential:
    """Makes the second half of the first layer's channels weak copies of the first half."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1 and parameter.shape[1] == 8:
                parameter[:, 4:] *= 0.5
        for name in ("0.weight", "0.bias"):
            tensor = model.get_parameter(name)
            tensor[4:] = 0.5 * tensor[:4]
    return model.eval()


def plan_half(model: nn.Module) -> PruningPlan:
    return plan_channels(model, x, Target(channels=0.5), round_to=1)


def net(*, bias: bool, norm: bool) -> nn.Sequential:
    middle = nn.Conv2d(8, 6, 3, padding=1, stride=2, bias=bias)
    torch.nn.init.normal_(middle.weight, std=0.3)
    layers: list[nn.Module] = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), middle]
    if norm:
        layers.append(nn.BatchNorm2d(6))
        nn.init.uniform_(layers[-1].get_buffer("running_mean"), 0.5, 1)
    return nn.Sequential(*layers)


@pytest.mark.parametrize(("bias", "norm"), [(True, False), (True, True), (False, True)])
def test_a_redundant_channel_is_made_up_for_exactly(bias: bool, norm: bool) -> None:
    dense = copied_channels(net(bias=bias, norm=norm))
    plan = plan_half(dense)
    pruned = plan.apply(dense)
    left = resolve_consumers(dense, pruned, plan.removed, BATCHES)
    assert left < 1e-6
    assert torch.allclose(pruned(x), dense(x), atol=1e-3)


@pytest.mark.parametrize("norm", [True, False])
def test_a_constant_channel_goes_into_the_bias_or_the_mean(norm: bool) -> None:
    dense = net(bias=not norm, norm=norm)
    with torch.no_grad():
        dense.get_parameter("0.weight")[4:] = 0
        dense.get_parameter("0.bias")[4:] = 0.7
    middle = dense[2]
    assert isinstance(middle, nn.Conv2d)
    middle.padding = (0, 0)
    dense.eval()
    plan = plan_half(dense)
    pruned = plan.apply(dense)
    assert not torch.allclose(pruned(x), dense(x), atol=1e-2)
    resolve_consumers(dense, pruned, plan.removed, BATCHES)
    assert torch.allclose(pruned(x), dense(x), atol=1e-3)


def test_a_linear_layer_after_flatten_is_fitted_too() -> None:
    dense = copied_channels(
        nn.Sequential(nn.Conv2d(3, 8, 6), nn.ReLU(), nn.Flatten(), nn.Linear(8, 5))
    )
    plan = plan_half(dense)
    pruned = plan.apply(dense)
    assert resolve_consumers(dense, pruned, plan.removed, BATCHES) < 1e-6


class Twice(nn.Module):
    """A layer that one pass calls twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.body = nn.Conv2d(8, 8, 1)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"out": self.head(self.body(self.body(self.stem(x)).relu()).relu())}


def test_a_shared_layer_is_fitted_on_all_its_calls() -> None:
    dense = Twice().eval()
    plan = plan_half(dense)
    pruned = plan.apply(dense)
    assert 0 < resolve_consumers(dense, pruned, plan.removed, BATCHES) < 1


class ByKeyword(Twice):
    """A layer that is called by keyword."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"out": self.head(input=self.body(self.stem(x)).relu())}


def test_a_layer_called_by_keyword_is_fitted_too() -> None:
    dense = ByKeyword().eval()
    plan = plan_half(dense)
    pruned = plan.apply(dense)
    head = pruned.get_parameter("head.weight").clone()
    assert resolve_consumers(dense, pruned, plan.removed, BATCHES) < 1
    assert not torch.equal(pruned.get_parameter("head.weight"), head)


def test_models_are_left_in_their_modes_and_the_dense_one_untouched() -> None:
    dense = net(bias=True, norm=True).train()
    plan = plan_half(dense)
    pruned = plan.apply(dense)
    before = copy.deepcopy(dense.state_dict())
    resolve_consumers(dense, pruned, plan.removed, BATCHES)
    assert dense.training
    assert pruned.training
    assert all(torch.equal(before[name], t) for name, t in dense.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in pruned.modules())


def test_a_change_that_does_not_help_is_undone() -> None:
    dense = net(bias=True, norm=False).eval()
    removed: dict[str, Any] = {"2.weight": {1: [0]}}
    twin = copy.deepcopy(dense)
    before = copy.deepcopy(twin.state_dict())
    assert resolve_consumers(dense, twin, removed, BATCHES) == 1.0
    assert all(torch.equal(before[name], t) for name, t in twin.state_dict().items())


def test_an_empty_loader_is_an_error() -> None:
    dense = net(bias=True, norm=False).eval()
    plan = plan_half(dense)
    with pytest.raises(CalibrationError, match="yielded nothing"):
        resolve_consumers(dense, plan.apply(dense), plan.removed, [])


def test_a_batch_that_the_model_fails_on_is_named() -> None:
    dense = net(bias=True, norm=False).eval()
    plan = plan_half(dense)
    bad = [x, torch.randn(2, 1, 6, 6)]
    with pytest.raises(CalibrationError, match="calibration batch 1: the model fails on it"):
        resolve_consumers(dense, plan.apply(dense), plan.removed, bad)


@pytest.mark.parametrize("shifted", [True, False])
def test_batch_norms_are_estimated_anew_only_where_that_helps(shifted: bool) -> None:
    torch.manual_seed(0)
    dense = net(bias=False, norm=True)
    if shifted:  # The statistics of the dense model are those of the data.
        norm = dense[3]
        assert isinstance(norm, nn.BatchNorm2d)
        norm.momentum = None
        norm.reset_running_stats()
        dense.train()(torch.cat([batch for batch, _ in BATCHES]))
    dense.eval()
    twin = copy.deepcopy(dense)
    if shifted:
        twin.get_buffer("3.running_mean").add_(3)
    before = twin.get_buffer("3.running_mean").clone()
    left = resolve_consumers(dense, twin, {}, BATCHES)
    if shifted:
        assert left < 1e-3
        assert not torch.equal(twin.get_buffer("3.running_mean"), before)
    else:
        assert left == 1.0
        assert torch.equal(twin.get_buffer("3.running_mean"), before)


class Grouped(nn.Module):
    """Grouped, depthwise, dilated and transposed convolutions behind a stem."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.up = nn.ConvTranspose2d(8, 6, 3, stride=2)
        self.depth = nn.Conv2d(6, 6, 3, groups=6, dilation=2, padding=2)
        self.grouped = nn.Conv2d(6, 4, 3, groups=2, stride=2)
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(self.stem(x).relu())
        return self.head(self.grouped(self.depth(x).relu()).relu().mean((2, 3)))


def test_what_the_kept_channels_span_is_restored_through_every_kind_of_layer() -> None:
    torch.manual_seed(0)
    dense = Grouped().eval()
    with torch.no_grad():
        for name in ("stem.weight", "stem.bias"):
            tensor = dense.get_parameter(name)
            tensor[4:] = 0.5 * tensor[:4]
    removed = {
        "stem.weight": {0: [4, 5, 6, 7]}, "stem.bias": {0: [4, 5, 6, 7]},
        "up.weight": {0: [4, 5, 6, 7]},
    }  # fmt: skip
    pruned = Grouped().eval()
    pruned.stem, pruned.up = nn.Conv2d(3, 4, 1), nn.ConvTranspose2d(4, 6, 3, stride=2)
    state = dense.state_dict()
    for name in ("stem.weight", "stem.bias", "up.weight"):
        state[name] = state[name][:4]
    pruned.load_state_dict(state)
    with torch.no_grad():
        for layer in (pruned.depth, pruned.grouped):
            layer.weight.mul_(0.9)
    assert resolve_consumers(dense, pruned, removed, BATCHES) < 1e-6
    assert torch.allclose(pruned(x), dense(x), atol=1e-3)

"""Norms between two layers: the pruned model against the norm of the channels that are kept."""

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from torchcompress import Target
from torchcompress.pruning import PruningPlan, plan_channels

x = torch.randn(2, 3, 8, 8)


def net(norm: nn.Module, channels: int = 16) -> nn.Sequential:
    """Returns two layers around a norm, all with random weights and statistics."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, channels, 3), norm, nn.Conv2d(channels, 5, 3))
    for name, tensor in copy.deepcopy(norm).state_dict().items():
        if tensor.is_floating_point():
            norm.state_dict()[name].uniform_(0.5, 1.5)
    return model.eval()


def kept(plan: PruningPlan, channels: int = 16) -> list[int]:
    """Returns the channels of the first layer that a plan keeps."""
    return [c for c in range(channels) if c not in plan.removed["0.weight"][0]]


def dense(model: nn.Sequential, left: list[int], norm: Callable[[Tensor], Tensor]) -> Tensor:
    """Gathers the kept channels, applies a norm that is written for them, and scatters."""
    with torch.no_grad():
        hidden = model[0](x)
        scattered = torch.zeros_like(hidden)
        scattered[:, left] = norm(hidden[:, left])
        return model[2](scattered)


def standardised(h: Tensor, *dims: int) -> Tensor:
    variance, mean = torch.var_mean(h, dims, correction=0, keepdim=True)
    return (h - mean) / (variance + 1e-5).sqrt()


def column(tensor: Tensor | None, left: list[int]) -> Tensor:
    assert tensor is not None
    return tensor.detach()[left].view(-1, 1, 1)


@pytest.mark.parametrize("shape", [(16, 6, 6), (6, 6)])
@pytest.mark.parametrize("affine", [True, False])
def test_a_layer_norm_over_positions_and_channels(shape: tuple[int, ...], affine: bool) -> None:
    norm = nn.LayerNorm(list(shape), elementwise_affine=affine)
    model = net(norm)
    plan = plan_channels(model, x, Target(channels=0.5))
    left, over = kept(plan), tuple(range(-len(shape), 0))

    def expected(h: Tensor) -> Tensor:
        h = standardised(h, *over)
        if not affine:
            return h
        own = left if len(shape) == 3 else ...
        return h * norm.weight.detach()[own] + norm.bias.detach()[own]

    pruned = plan.apply(model)
    assert torch.allclose(pruned(x), dense(model, left, expected), atol=1e-5)
    assert bool(plan.inexact) == (len(shape) == 3)
    mended = dict(pruned.named_modules())["1"]
    assert isinstance(mended, nn.LayerNorm)
    assert mended.normalized_shape == ((8, 6, 6) if len(shape) == 3 else (6, 6))


class LastDim(nn.Module):
    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class WrittenOut(nn.Module):
    """The same norm in the model's own arithmetic, as older language models have it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


@pytest.mark.parametrize("norm", [nn.RMSNorm(16, eps=1e-6), WrittenOut(16)], ids=type)
def test_a_root_mean_square_norm(norm: nn.RMSNorm | WrittenOut) -> None:
    model = net(LastDim(norm))
    plan = plan_channels(model, x, Target(channels=0.5))
    left = kept(plan)

    def expected(h: Tensor) -> Tensor:
        return h / (h.square().mean(1, keepdim=True) + 1e-6).sqrt() * column(norm.weight, left)

    assert torch.allclose(plan.apply(model)(x), dense(model, left, expected), atol=1e-5)
    assert plan.inexact.keys() == {"0"}


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(("channels", "groups"), [(16, 1), (16, 2), (32, 8), (16, 16)])
def test_a_group_norm_loses_whole_groups_or_the_same_offsets(
    channels: int, groups: int, affine: bool
) -> None:
    norm = nn.GroupNorm(groups, channels, affine=affine)
    model = net(norm, channels)
    plan = plan_channels(model, x, Target(channels=0.5), round_to=1)
    left = kept(plan, channels)
    whole = groups >= channels // groups
    groups_left = groups // 2 if whole else groups

    def expected(h: Tensor) -> Tensor:
        h = standardised(h.unflatten(1, (groups_left, -1)), 2, 3, 4).flatten(1, 2)
        return h * column(norm.weight, left) + column(norm.bias, left) if affine else h

    pruned = plan.apply(model)
    assert torch.allclose(pruned(x), dense(model, left, expected), atol=1e-5)
    assert bool(plan.inexact) != whole
    mended = dict(pruned.named_modules())["1"]
    assert isinstance(mended, nn.GroupNorm)
    assert (mended.num_channels, mended.num_groups) == (channels // 2, groups_left)
    if whole:
        gone = [c for c in range(channels) if c not in left]
        with torch.no_grad():
            zeroed = model[2](model[1](model[0](x)).index_fill(1, torch.tensor(gone), 0))
        assert torch.allclose(pruned(x), zeroed, atol=1e-5)


@pytest.mark.parametrize("tracked", [True, False])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("kind", [nn.BatchNorm2d, nn.InstanceNorm2d])
def test_a_norm_of_each_channel_is_exact(
    kind: type[nn.BatchNorm2d | nn.InstanceNorm2d], affine: bool, tracked: bool
) -> None:
    norm = kind(16, affine=affine, track_running_stats=tracked)
    model = net(norm)
    plan = plan_channels(model, x, Target(channels=0.5))
    left = kept(plan)
    over = (0, 2, 3) if kind is nn.BatchNorm2d else (2, 3)

    def expected(h: Tensor) -> Tensor:
        if tracked:
            h = h - column(norm.running_mean, left)
            h = h / (column(norm.running_var, left) + 1e-5).sqrt()
        else:
            h = standardised(h, *over)
        return h * column(norm.weight, left) + column(norm.bias, left) if affine else h

    pruned = plan.apply(model)
    assert torch.allclose(pruned(x), dense(model, left, expected), atol=1e-5)
    assert plan.inexact == {}
    mended = dict(pruned.named_modules())["1"]
    assert isinstance(mended, kind)
    assert mended.num_features == 8


def test_an_instance_norm_without_tensors_is_mended_without_a_batch_too() -> None:
    model = nn.Sequential(nn.Conv1d(3, 16, 3), nn.InstanceNorm1d(16), nn.Conv1d(16, 5, 3))
    plan = plan_channels(model, torch.randn(3, 12), Target(channels=0.5))
    assert plan.mends["1"] == {"num_features": 8}


def test_what_follows_the_statistics_of_the_batch() -> None:
    class Functional(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.batch_norm(x, None, None, training=True)

    model = net(Functional())
    plan = plan_channels(model, x, Target(channels=0.5))
    left = kept(plan)
    expected = dense(model, left, lambda h: standardised(h, 0, 2, 3))
    assert torch.allclose(plan.apply(model)(x), expected, atol=1e-5)


class Mixing(nn.Module):
    """Mixes positions between two layers, so that positions are what can go."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(6, 16), norm, nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm(self.first(x)))


@pytest.mark.parametrize(
    ("norm", "dims"),
    [
        (nn.GroupNorm(1, 4), (1, 2)),
        (nn.InstanceNorm1d(4), (2,)),
        (nn.BatchNorm1d(4, track_running_stats=False), (0, 2)),
    ],
    ids=str,
)
def test_positions_that_go_are_left_out_of_a_norm(norm: nn.Module, dims: tuple[int, ...]) -> None:
    model, tokens = Mixing(norm).eval(), torch.randn(2, 4, 6)
    plan = plan_channels(model, tokens, Target(channels=0.5))
    gone = plan.removed["first.weight"][0]
    left = [i for i in range(16) if i not in gone]
    with torch.no_grad():
        hidden = standardised(model.first(tokens)[..., left], *dims)
        expected = F.linear(hidden, model.last.weight[:, left], model.last.bias)
    assert torch.allclose(plan.apply(model)(tokens), expected, atol=1e-5)
    assert plan.inexact.keys() == {"first"}


def test_a_model_in_half_precision_is_planned_like_any_other() -> None:
    model = net(LastDim(nn.LayerNorm(16)))
    expected = plan_channels(model, x, Target(channels=0.5))
    model.to(torch.bfloat16)
    plan = plan_channels(model, x.bfloat16(), Target(channels=0.5))
    assert plan.inexact == expected.inexact
    assert plan.apply(model)(x.bfloat16()).dtype == torch.bfloat16


def test_a_residual_stream_through_norms_over_channels_is_pruned_whole() -> None:
    torch.manual_seed(0)
    setting = torchvision.models.convnext.CNBlockConfig
    model = torchvision.models.ConvNeXt(
        [setting(16, 32, 2), setting(32, None, 1)], stochastic_depth_prob=0.1, num_classes=10
    )
    image = torch.randn(2, 3, 32, 32)
    plan = plan_channels(model, image, Target(channels=0.5))
    assert plan.frozen.keys() == {"features.0.0.weight[1]", "classifier.2"}
    assert plan.inexact.keys() == {"features.0.0", "features.2.1"}
    assert plan.frozen_share < 0.01
    assert plan.difference is not None
    assert plan.difference < 1e-5
    pruned = plan.apply(model).train()
    pruned(image).sum().backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in pruned.parameters())

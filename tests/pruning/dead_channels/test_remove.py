import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.models import resnet18

import torchcompress as tc
from torchcompress.core.plan import plan_from_json, plan_to_json
from torchcompress.errors import CompressError, UnsupportedError
from torchcompress.pruning import PruningPlan

IMAGE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def fixed_weights() -> None:
    torch.manual_seed(0)


def seeded(model: nn.Module, seed: int = 0) -> nn.Module:
    """Returns a model in eval mode, with random numbers in its norms too."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean):
                assert tensor is not None
                tensor.data = torch.randn(tensor.shape, generator=generator)
    return model.eval()


def zeroed(model: nn.Module, name: str, *indices: int, dim: int = 0) -> None:
    model.get_parameter(name).data.index_fill_(dim, torch.tensor(indices), 0)


def plan_of(model: nn.Module) -> PruningPlan:
    plan = tc.history(model)[-1]
    assert isinstance(plan, PruningPlan)
    return plan


def removed(
    model: nn.Module, x: Tensor = IMAGE, exact: bool = False, sizes: tuple[int, ...] = (8, 13)
) -> PruningPlan:
    """Removes what is dead, compares the outputs on other inputs, and returns the plan.

    In float64, where only a wrong constant makes a difference.
    """
    smaller = tc.remove_dead_channels(model, x)
    for size in sizes:
        other = torch.randn(3, *x.shape[1:-2], size, size, dtype=torch.float64)
        ours, theirs = (copy.deepcopy(m).double()(other) for m in (smaller, model))
        if exact:
            assert torch.equal(ours, theirs)
        else:
            rounding = 1e-6 * theirs.abs().max().clamp_min(0.1)  # Of constants in float32.
            assert (ours - theirs).abs().max() <= rounding
    return plan_of(smaller)


def kept(plan: PruningPlan) -> dict[str, int]:
    return {group.name: group.kept for group in plan.groups}


def chain(padding: int = 1, bias: bool = False) -> nn.Module:
    return seeded(
        nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 4, 3, padding=padding, bias=bias),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4, 5),
        )
    )


def test_a_channel_that_gives_zero_goes_and_leaves_the_rest_bit_equal() -> None:
    model = chain()
    zeroed(model, "0.weight", 1, 4)
    zeroed(model, "1.bias", 1, 4)
    model.get_buffer("1.running_mean")[[1, 4]] = 0
    plan = removed(model, exact=True)
    assert plan.removed["0.weight"] == {0: [1, 4]}
    assert plan.removed["3.weight"] == {1: [1, 4]}


def test_a_constant_next_to_a_border_of_zeros_stays_and_the_table_says_why() -> None:
    model = chain()
    zeroed(model, "1.weight", 0, 1)
    model.get_parameter("1.bias").data[:2] = torch.tensor([0.5, -0.5])
    plan = removed(model)
    assert plan.removed["0.weight"] == {0: [1]}
    assert plan.notes["0"] == "1 dead channel stays: 3 reads the constant next to a border of zeros"
    assert "next to a border of zeros" in str(plan)


@pytest.mark.parametrize("bias", [False, True])
def test_without_a_border_it_moves_into_the_bias_or_the_mean_of_the_next_norm(bias: bool) -> None:
    model = chain(padding=0, bias=bias)
    zeroed(model, "1.weight", 0, 1)
    model.get_parameter("1.bias").data[:2] = torch.tensor([0.5, -0.5])
    plan = removed(model)
    assert plan.removed["0.weight"] == {0: [0, 1]}
    into = "3.bias" if bias else "4.running_mean"
    assert plan.notes["0"] == f"constants move into {into}"
    smaller = tc.remove_dead_channels(model, IMAGE)
    weight = model.get_parameter("3.weight")[:, 0].sum((1, 2)) * 0.5
    if bias:
        moved = smaller.get_parameter("3.bias") - model.get_parameter("3.bias")
    else:
        moved = model.get_buffer("4.running_mean") - smaller.get_buffer("4.running_mean")
    torch.testing.assert_close(moved, weight)


def test_taps_that_never_meet_the_border_take_the_constant_along() -> None:
    model = chain()
    zeroed(model, "1.weight", 0)
    model.get_parameter("1.bias").data[0] = 0.5
    weight = model.get_parameter("3.weight").data
    centre = weight[:, 0, 1, 1].clone()
    weight[:, 0] = 0
    weight[:, 0, 1, 1] = centre
    assert removed(model, sizes=(1, 2, 9)).removed["0.weight"] == {0: [0]}


def test_a_channel_that_nobody_hears_goes_however_alive_it_is() -> None:
    model = chain()
    zeroed(model, "3.weight", 2, 5, dim=1)
    assert removed(model, exact=True).removed["0.weight"] == {0: [2, 5]}


def test_what_only_feeds_the_dead_is_dead() -> None:
    model = chain()
    zeroed(model, "8.weight", 3, dim=1)
    model.get_parameter("3.weight").data[:3, 4] = 0
    plan = removed(model)
    assert plan.removed["3.weight"] == {0: [3], 1: [4]}
    assert plan.removed["0.weight"] == {0: [4]}


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.a = nn.Conv2d(6, 6, 1)
        self.b = nn.Conv2d(6, 6, 1)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu_()
        x = F.relu(x + self.a(x))
        x += self.b(x).tanh()
        return self.head(F.dropout(x.mean((2, 3)), 0.5, self.training))


def test_a_residual_stream_loses_a_channel_once_every_producer_is_dead() -> None:
    model = seeded(Residual())
    zeroed(model, "stem.weight", 2, 3)
    model.get_parameter("stem.bias").data[2] = 1
    model.get_parameter("a.bias").data[2] = 0.25
    zeroed(model, "a.weight", 2)
    assert removed(model).removed == {}
    zeroed(model, "b.weight", 2)
    plan = removed(model)
    assert plan.removed["stem.weight"] == {0: [2]}
    assert plan.removed["head.weight"] == {1: [2]}
    assert "a.bias, b.bias, head.bias" in plan.notes["stem"]


class Joined(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3, padding=1)
        self.b = nn.Conv2d(3, 4, 1)
        self.mix = nn.Conv2d(8, 4, 1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4 * 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([F.silu(self.a(x)), F.hardswish(self.b(x))], 1)
        x = F.max_pool2d(self.norm(self.mix(x)).relu(), 2)
        return self.head(x.flatten(1))


def test_concatenated_channels_and_a_linear_layer_after_flatten() -> None:
    model = seeded(Joined())
    zeroed(model, "a.weight", 1)
    zeroed(model, "b.weight", 0, 3)
    zeroed(model, "norm.weight", 2)
    plan = removed(model, sizes=(8,))
    assert plan.removed["a.weight"] == {0: [1]}
    assert plan.removed["b.weight"] == {0: [0, 3]}
    assert plan.removed["mix.weight"] == {0: [2], 1: [1, 4, 7]}
    assert plan.removed["head.weight"] == {1: list(range(32, 48))}


def separable(padding: int, groups: int = 8) -> nn.Module:
    return seeded(
        nn.Sequential(
            nn.Conv2d(3, 8, 1),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=padding, groups=groups),
            nn.ReLU(),
            nn.Conv2d(8, 4, 1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
    )


def test_a_depthwise_channel_goes_with_the_constant_that_reaches_the_next_layer() -> None:
    model = separable(padding=1)
    zeroed(model, "0.weight", 1, 2)
    model.get_parameter("0.bias").data[[1, 2]] = torch.tensor([-1.0, 1.0])
    zeroed(model, "2.weight", 5)
    model.get_parameter("2.bias").data[5] = 2
    plan = removed(model)
    assert plan.removed["2.weight"] == {0: [1, 5]}
    reason = "2 reads the constant next to a border of zeros"
    assert plan.notes["0"] == f"1 dead channel stays: {reason}; constants move into 4.bias"
    assert removed(separable(padding=0)).removed == {}
    free = separable(padding=0)
    zeroed(free, "0.weight", 2)
    assert removed(free).removed["2.weight"] == {0: [2]}


def test_a_border_that_is_padded_before_the_layer_is_told_from_the_input() -> None:
    layers = [nn.Conv2d(3, 4, 1), nn.ReLU(), nn.ZeroPad2d(1), nn.Conv2d(4, 2, 3), nn.Flatten()]
    model = nn.Sequential(*layers).eval()
    zeroed(model, "0.weight", 1, 2)
    model.get_parameter("0.bias").data[[1, 2]] = torch.tensor([-1.0, 1.0])
    plan = removed(model, sizes=(8,))
    assert plan.removed["0.weight"] == {0: [1]}
    reason = "3 reads a constant that a border of zeros makes vary"
    assert plan.notes["0"] == f"1 dead channel stays: {reason}"


def test_a_grouped_convolution_loses_whole_groups_or_the_same_offsets() -> None:
    model = separable(padding=1, groups=4)
    zeroed(model, "4.weight", 2, 3, dim=1)
    plan = removed(model)
    one = plan.removed["2.weight"][0]
    assert one == [2, 3]
    assert kept(plan)["0"] == 6


def test_of_a_layer_that_is_dead_as_a_whole_one_channel_stays() -> None:
    model = chain()
    zeroed(model, "8.weight", 0, 1, 2, 3, dim=1)
    plan = removed(model)
    assert kept(plan)["0"] == kept(plan)["3"] == 1
    assert plan.notes["3"] == "all channels are dead: one stays, as a layer needs one"


def test_a_layer_norm_reads_every_channel_and_keeps_it() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 8), nn.GELU())
    model.append(nn.Linear(8, 2))
    zeroed(model, "0.weight", 1)
    zeroed(model, "2.weight", 3, 4)
    smaller = tc.remove_dead_channels(model, torch.randn(2, 5, 4))
    assert kept(plan_of(smaller))["0"] == 6
    assert kept(plan_of(smaller))["2"] == 6
    x = torch.randn(3, 7, 4)
    torch.testing.assert_close(smaller(x), model(x))


class Summing(nn.Module):
    def __init__(self, over: str) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Conv2d(3, 8, 1), nn.GroupNorm(4, 8), nn.Conv2d(8, 2, 1)
        self.over = over

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        if self.over == "groups":
            return self.b(self.norm(x))
        x = x.relu()
        return self.b(x.cumsum(1) if self.over == "running sum" else x + x.sum(1, keepdim=True))


@pytest.mark.parametrize("over", ["groups", "running sum", "sum"])
def test_operations_over_channels_need_what_is_not_zero(over: str) -> None:
    model = Summing(over).eval()
    zeroed(model, "a.weight", 2, 3)
    model.get_parameter("a.bias").data[[2, 3]] = torch.tensor([1.0, -1.0])
    zeroed(model, "b.weight", 2, 3, dim=1)
    plan = removed(model)
    expected = {"groups": [2, 3], "running sum": [3], "sum": [3]}[over]
    assert plan.removed["a.weight"] == {0: expected}


def test_a_dead_head_of_an_attention_goes() -> None:
    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 4, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.attention(x, x, x, need_weights=False)[0]

    model = Attending().eval()
    zeroed(model, "attention.out_proj.weight", 2, 3, dim=1)
    x = torch.randn(2, 5, 8)
    smaller = tc.remove_dead_channels(model, x)
    assert plan_of(smaller).removed["attention.out_proj.weight"] == {1: [2, 3]}
    torch.testing.assert_close(smaller(x), model(x))


def test_a_layer_that_is_called_twice_or_shares_its_bias_takes_no_constant() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.head = nn.Linear(3, 4), nn.Linear(4, 3), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = self.b(self.a(x).sigmoid())
            return self.head(self.b(y.sigmoid() @ torch.ones(3, 4)) + y)

    model = Twice().eval()
    zeroed(model, "a.weight", 1)
    smaller = tc.remove_dead_channels(model, torch.randn(2, 3))
    x = torch.randn(4, 3)
    torch.testing.assert_close(smaller(x), model(x))
    assert plan_of(smaller).removed == {}


def test_a_value_that_leaves_before_the_norm_keeps_its_constant() -> None:
    class Leaving(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1, bias=False)
            self.norm = nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> list[Tensor]:
            y = self.b(self.a(x).sigmoid())
            return [y, self.norm(y)]

    model = seeded(Leaving())
    zeroed(model, "a.weight", 1)
    plan = plan_of(tc.remove_dead_channels(model, IMAGE))
    assert plan.removed == {}
    assert "b reads the constant, which has no bias" in plan.notes["a"]


def test_nothing_dead_leaves_the_model_as_it_was() -> None:
    model = chain()
    smaller = tc.remove_dead_channels(model, IMAGE)
    assert plan_of(smaller).removed == {}
    assert smaller is not model
    assert all(
        torch.equal(a, b) for a, b in zip(smaller.parameters(), model.parameters(), strict=True)
    )


def test_excluded_layers_keep_their_channels() -> None:
    model = chain()
    zeroed(model, "3.weight", 2, 5, dim=1)
    smaller = tc.remove_dead_channels(model, IMAGE, exclude=["0"])
    assert plan_of(smaller).removed == {}
    assert plan_of(smaller).frozen["0"] == "0 is excluded"
    with pytest.raises(CompressError, match="matches nothing"):
        tc.remove_dead_channels(model, IMAGE, exclude=["convolution"])


def test_in_place_and_through_the_plan_and_the_state_dict() -> None:
    model = chain(padding=0)
    zeroed(model, "1.weight", 0, 1)
    fresh, before = copy.deepcopy(model), copy.deepcopy(model.state_dict())
    smaller = tc.remove_dead_channels(model, IMAGE)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    plan = plan_from_json(plan_to_json(plan_of(smaller)))
    again = plan.apply(fresh)
    again.load_state_dict(smaller.state_dict())
    assert torch.equal(again(IMAGE), smaller(IMAGE))
    weight = model.get_parameter("0.weight")
    assert tc.remove_dead_channels(model, IMAGE, inplace=True) is model
    assert model.get_parameter("0.weight") is weight
    assert torch.equal(model(IMAGE), smaller(IMAGE))


def test_a_model_that_cannot_be_cut_in_place_is_left_as_it_was(tmp_path: Path) -> None:
    model = chain(padding=0)
    zeroed(model, "1.weight", 0, 1)
    before = copy.deepcopy(model.state_dict())
    meeting = f"file://{tmp_path}/store"
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=0, world_size=1)
    try:
        parallel = nn.parallel.DistributedDataParallel(model)
        with pytest.raises(UnsupportedError, match="distributed data parallel"):
            tc.remove_dead_channels(parallel, IMAGE, inplace=True)
        smaller = tc.remove_dead_channels(parallel, IMAGE)
    finally:
        torch.distributed.destroy_process_group()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    torch.testing.assert_close(smaller(IMAGE), model(IMAGE))


def test_a_masked_resnet_loses_channels_and_answers_as_before() -> None:
    torch.manual_seed(0)
    model = resnet18(num_classes=10).eval()
    for name, parameter in model.named_parameters():
        if parameter.dim() == 4 and name != "conv1.weight":
            threshold = parameter.abs().flatten().kthvalue(int(0.98 * parameter.numel())).values
            rows = parameter.abs().amax((1, 2, 3), keepdim=True)
            strong = rows >= rows.flatten().median()
            parameter.data *= (parameter.abs() > threshold) & strong
    x = torch.randn(1, 3, 32, 32)
    smaller = tc.remove_dead_channels(model, x)
    plan = plan_of(smaller)
    assert plan.params[1] < 0.6 * plan.params[0]
    other = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(smaller(other), model(other), atol=1e-4, rtol=1e-4)


ACTIVATIONS: list[Callable[[], nn.Module]] = [nn.ReLU, nn.Sigmoid, nn.SiLU, nn.Hardswish]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_random_networks_with_random_dead_channels_answer_as_before(seed: int) -> None:
    torch.manual_seed(seed)

    def some(n: int) -> int:
        return int(torch.randint(n, ()))

    layers: list[nn.Module] = []
    width = 3
    for _ in range(2 + some(3)):
        new, size = 4 + 2 * some(3), 1 + 2 * some(2)
        grouped = width % 2 == 0 and some(3) == 0
        groups = (width if some(2) else 2) if grouped else 1
        new = width * (1 + some(2)) if grouped else new
        layers.append(
            nn.Conv2d(
                width, new, size, padding=some(2) * (size // 2), groups=groups, bias=bool(some(2))
            )
        )
        layers += [nn.BatchNorm2d(new)] * some(2) + [ACTIVATIONS[some(4)]()] * some(2)
        width = new
    model = seeded(
        nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 3)), seed
    )
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
            gone = torch.rand(len(module.weight)) < 0.4
            module.weight.data[gone] = 0
            if some(2) and module.bias is not None:
                module.bias.data[gone] = 0
            if isinstance(module, nn.Conv2d):
                module.weight.data[:, torch.rand(module.weight.shape[1]) < 0.3] = 0
    x = torch.randn(2, 3, 14, 14)
    removed(model, x, sizes=(14, 17))


def test_a_wrong_removal_is_not_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchcompress.pruning.dead_channels import remove

    model = chain(padding=0)
    zeroed(model, "1.weight", 0)
    model.get_parameter("1.bias").data[0] = 1
    monkeypatch.setattr(remove, "_move", lambda model, moved: None)
    with pytest.raises(UnsupportedError, match="gives other outputs"):
        tc.remove_dead_channels(model, IMAGE)

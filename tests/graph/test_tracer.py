import copy
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torchcompress.errors import TraceError, UnsupportedError
from torchcompress.graph import channel_groups, trace


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.branch = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)))
        return self.head((x + self.branch(x)).mean((2, 3)))


x = torch.randn(2, 3, 6, 6)


def test_a_residual_ties_its_two_producers_norm_and_consumers() -> None:
    groups = {group.name: group for group in channel_groups(trace(Residual(), x))}
    stem = groups["stem"]
    assert set(stem.members) == {
        ("stem.weight", 0),
        ("stem.bias", 0),
        ("norm.weight", 0),
        ("norm.bias", 0),
        ("norm.running_mean", 0),
        ("norm.running_var", 0),
        ("branch.weight", 0),
        ("branch.weight", 1),
        ("branch.bias", 0),
        ("head.weight", 1),
    }
    assert stem.units == 8
    assert stem.frozen is None
    assert stem.producers == ("stem", "branch")
    assert groups["head"].frozen == "reaches the output"
    assert groups["stem.weight[1]"].frozen == "is summed with a dimension of fixed size"


def test_the_model_is_left_as_it_was() -> None:
    model = Residual().train()
    before = copy.deepcopy(model.state_dict())
    trace(model, x)
    assert model.training
    assert model.norm.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_frozen_parameters_and_no_grad_change_nothing() -> None:
    model = Residual()
    expected = [(g.name, g.frozen) for g in channel_groups(trace(model, x))]
    model.requires_grad_(False)
    with torch.inference_mode():
        assert [(g.name, g.frozen) for g in channel_groups(trace(model, x))] == expected


@torch.library.custom_op("torchcompress_test::scramble", mutates_args=())
def scramble(x: Tensor) -> Tensor:
    return x.sort(1).values


class Scrambling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 1)
        self.second = nn.Conv2d(8, 8, 1)
        self.third = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.third(self.second(scramble(self.first(x))))


def test_an_operation_without_a_rule_freezes_its_neighbours() -> None:
    seen = trace(Scrambling(), x)
    groups = {group.name: group for group in channel_groups(seen)}
    assert groups["first"].frozen == "meets torchcompress_test.scramble, which has no rule"
    assert groups["second"].frozen is None
    assert dict(seen.unknown) == {"torchcompress_test.scramble": 1}


class Unused(Residual):
    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Conv2d(8, 8, 1)


def test_a_layer_that_never_runs_is_frozen() -> None:
    frozen = {g.name: g.frozen for g in channel_groups(trace(Unused(), x))}
    assert frozen["spare.weight[0]"] == "was not used in the run"


def test_an_input_of_the_wrong_shape_says_so() -> None:
    with pytest.raises(TraceError, match=r"example input \(x \(2, 4, 6, 6\)\)"):
        trace(Residual(), torch.randn(2, 4, 6, 6))


def test_meta_tensors_are_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"stem\.weight"):
        trace(Residual().to("meta"), x)


class Indexed(nn.Module):
    """A model whose channels meet the input itself."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> dict[str, list[Tensor]]:
        return {"out": [x + self.conv(x)]}


def test_channels_that_meet_the_input_or_a_nested_output_are_frozen() -> None:
    assert all(group.frozen for group in channel_groups(trace(Indexed(), x)))


@dataclass
class Answer:
    logits: Tensor


class Wrapping(nn.Module):
    def __init__(self, wrap: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)
        self.wrap = wrap

    def forward(self, x: Tensor) -> object:
        return self.wrap(self.conv(x))


def test_an_output_in_a_dataclass_is_found_and_one_that_is_hidden_is_an_error() -> None:
    groups = channel_groups(trace(Wrapping(Answer), x))
    assert {g.name: g.frozen for g in groups}["conv"] == "reaches the output"
    with pytest.raises(TraceError, match="no tensor is found in the output, a function"):
        trace(Wrapping(lambda y: lambda: y), x)


def test_grouped_convolutions_lose_whole_groups_or_the_same_offsets() -> None:
    model = nn.Sequential(nn.Conv2d(3, 32, 1), nn.Conv2d(32, 32, 3, groups=16), nn.Conv2d(32, 2, 1))
    whole = next(g for g in channel_groups(trace(model, x)) if g.name == "0")
    assert whole.units == 16
    assert whole.members["1.weight", 0].shape == (16, 2)
    assert ("1.weight", 1) not in whole.members
    model[1] = nn.Conv2d(32, 32, 3, groups=2)
    offsets = next(g for g in channel_groups(trace(model, x)) if g.name == "0")
    assert offsets.members["0.weight", 0].tolist() == [[i, i + 16] for i in range(16)]
    assert offsets.members["1.weight", 1].tolist() == [[i] for i in range(16)]


def test_shared_weights_are_one_group() -> None:
    shared = nn.Conv2d(8, 8, 1)
    model = nn.Sequential(nn.Conv2d(3, 8, 1), shared, nn.ReLU(), shared, nn.Conv2d(8, 2, 1))
    groups = [g for g in channel_groups(trace(model, x)) if g.frozen is None]
    assert [(g.name, g.units, g.width) for g in groups] == [("0", 8, 1)]


def test_positions_that_the_example_does_not_reach_stay() -> None:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.randn(1, 64, 16))
            self.a, self.b = nn.Linear(16, 32), nn.Linear(32, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x + self.table[:, : x.shape[1]]).relu())

    groups = {
        group.name: group for group in channel_groups(trace(Positions(), torch.randn(2, 9, 16)))
    }
    beyond = groups["table[1]#2"]
    assert beyond.units == 55
    assert beyond.frozen == "was not used in the run"
    assert groups["a"].frozen is None

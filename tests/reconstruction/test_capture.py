from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torchcompress.errors import CalibrationError
from torchcompress.reconstruction.capture import Calibration, solvable_layers, watch

torch.manual_seed(0)

x = torch.randn(4, 3, 6, 6)


class Branches(nn.Module):
    """Runs its layers in another order than it holds them; one twice, one never."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 2)
        self.unused = nn.Linear(8, 2)
        self.norm = nn.BatchNorm2d(8)
        self.body = nn.Conv2d(8, 8, 1)
        self.stem = nn.Conv2d(3, 8, 1)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x))
        x = torch.relu_(self.body(self.body(x)))
        return self.head(input=self.drop(x.mean((2, 3))))


def test_layers_come_in_the_order_of_the_run_with_their_calls_and_norms() -> None:
    net = Branches()
    layers = solvable_layers(net, Calibration([x], net))
    assert [(f.name, f.calls) for f in layers] == [("stem", 1), ("body", 2), ("head", 1)]
    assert [f.norm for f in layers] == [net.norm, None, None]


def test_the_model_is_as_before() -> None:
    net = Branches().train()
    calibration = Calibration([x], net)
    state = torch.get_rng_state()
    layers = solvable_layers(net, calibration)
    watch(net, layers, calibration, 0, lambda *_: None)
    assert net.training
    assert net.norm.num_batches_tracked == 0
    assert torch.equal(state, torch.get_rng_state())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_the_run_ends_after_the_last_layer_of_interest() -> None:
    net = Branches()
    calibration = Calibration([x], net)
    layers = solvable_layers(net, calibration)
    calls: list[str] = []
    net.head.register_forward_hook(lambda *_: calls.append("head"))
    watch(net, layers[:2], calibration, 0, lambda layer, _: calls.append(layer.name))
    assert calls == ["stem", "body", "body"]


def test_a_shared_or_computed_weight_is_left_out() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    net[1].weight = net[0].weight
    nn.utils.parametrizations.weight_norm(net[2])
    layers = solvable_layers(net, Calibration([torch.randn(2, 4)], net))
    assert [layer.name for layer in layers] == ["3"]


def test_an_encoder_shows_all_its_layers() -> None:
    net = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    layers = solvable_layers(net, Calibration([torch.randn(2, 5, 8)], net))
    parts = [f"self_attn.{part}" for part in ("q", "k", "v", "out")]
    assert [layer.name for layer in layers] == [*parts, "linear1", "linear2"]


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "yielded nothing"),
        ([x, torch.full_like(x, float("nan"))], "calibration batch 1: the input is not finite"),
        ([torch.zeros(2, 1, 6, 6)], "calibration batch 0: the model fails on it"),
    ],
)
def test_unusable_batches_are_named(batches: list[Any], message: str) -> None:
    net = Branches()
    with pytest.raises(CalibrationError, match=message):
        solvable_layers(net, Calibration(batches, net))


def test_batches_move_to_the_device_of_the_model() -> None:
    net = nn.Linear(2, 2, device="meta")
    batches = Calibration([torch.zeros(1, 2)], net).batches
    assert batches[0].device.type == "meta"


def test_a_layer_that_reads_what_is_not_finite_is_named() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)).double()
    nn.init.constant_(net.get_parameter("0.weight"), 1e308)
    calibration = Calibration([torch.full((2, 3), 1e3).double()], net)
    layers = solvable_layers(net, calibration)
    with pytest.raises(
        CalibrationError, match=r"^1, calibration batch 0: reads what is not finite"
    ):
        watch(net, layers, calibration, 0, lambda *_: None)


class Fickle(nn.Module):
    """Skips a layer on a batch of ones."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 2)
        self.second = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        return y if x.eq(1).all() else self.second(y)


def test_a_batch_that_takes_another_path_is_named() -> None:
    net = Fickle()
    calibration = Calibration([torch.zeros(1, 2), torch.ones(1, 2)], net)
    layers = solvable_layers(net, calibration)
    with pytest.raises(CalibrationError, match="second, calibration batch 1: is called 0 times"):
        watch(net, layers, calibration, 1, lambda *_: None)

import copy

import pytest
import torch
from torch import Tensor, nn

from torchcompress.errors import CalibrationError
from torchcompress.reconstruction.capture import Calibration, solvable_layers
from torchcompress.reconstruction.statistics import collect
from torchcompress.reconstruction.walk import walk


class Net(nn.Module):
    """A layer that is called twice, an attention and a residual sum in place."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.twice = nn.Conv2d(8, 8, 1)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu_()
        x = self.twice(self.twice(x).relu_())
        x = x.flatten(2).transpose(1, 2)
        x = x + self.attention(x, x, x)[0]
        return self.head(input=x.mean(1))


def models() -> tuple[Net, Net, Calibration]:
    dense = Net().eval()
    return (
        copy.deepcopy(dense),
        dense,
        Calibration([torch.randn(n, 3, 5, 5) for n in (4, 2)], dense),
    )


def test_each_layer_sees_what_the_changed_ones_before_it_give() -> None:
    model, dense, calibration = models()
    layers, twins = solvable_layers(model, calibration), solvable_layers(dense, calibration)
    names = []
    for layer, moments in walk(model, layers, dense, twins, calibration, "test"):
        twin = next(t for t in twins if t.name == layer.name)
        alone = collect(model, [layer], calibration, (dense, [twin]))[layer.name]
        assert moments.count == alone.count
        for field in ("x", "y", "xx", "xy", "yy"):
            assert torch.allclose(getattr(moments, field), getattr(alone, field), atol=1e-4)
        layer.write(0.5 * layer.weight)
        names.append(layer.name)
    parts = [f"attention.{part}" for part in ("q", "k", "v", "out")]
    assert names == ["stem", "twice", *parts, "head"]


def test_some_layers_are_walked_past() -> None:
    model, dense, calibration = models()
    layers, twins = solvable_layers(model, calibration), solvable_layers(dense, calibration)
    pairs = walk(model, layers[-1:], dense, twins[-1:], calibration, "test")
    assert [layer.name for layer, _ in pairs] == ["head"]


def test_models_are_as_before_where_a_walk_is_left() -> None:
    model, dense, calibration = models()
    model.train()
    layers, twins = solvable_layers(model, calibration), solvable_layers(dense, calibration)
    steps = walk(model, layers, dense, twins, calibration, "test")
    next(steps)
    del steps
    assert model.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert torch.is_grad_enabled()


class Fickle(nn.Module):
    """Swaps its layers on a batch of ones."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        if x.eq(2).all():
            raise ValueError("a batch of twos")
        return self.first(self.second(x)) if x.eq(1).all() else self.second(self.first(x))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1.0, "first, calibration batch 1: is not called when it is"),
        (2.0, "calibration batch 1: the model fails on it: a batch of twos"),
    ],
)
def test_a_batch_that_takes_another_path_is_named(value: float, message: str) -> None:
    model = Fickle()
    calibration = Calibration([torch.zeros(1, 2), torch.full((1, 2), value)], model)
    layers, dense = solvable_layers(model, calibration), copy.deepcopy(model)
    twins = solvable_layers(dense, calibration)
    with pytest.raises(CalibrationError, match=message):
        list(walk(model, layers, dense, twins, calibration, "test"))

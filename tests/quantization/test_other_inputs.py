"""Hooks and state: what one batch cannot tell. The float model on unseen inputs is the oracle."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torchcompress.core.errors import UnsupportedError
from torchcompress.quantization import Int8Model, PartlyInt8Model, quantize
from torchcompress.quantization.other_inputs import varied
from torchcompress.quantization.qat import prepare_qat
from torchcompress.quantization.sqnr import sqnr


def conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


class Grabbing(nn.Module):
    """Adds what a hook stored of its first layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = conv(3, 8), conv(8, 8)
        self.kept: Any = None
        self.watch()

    def watch(self) -> None:
        self.first.register_forward_hook(self.grab)

    def grab(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self.kept = output

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).relu()) + 3 * self.kept


class Closed(Grabbing):
    """Its hook means this very object, also in a copy of it."""

    def watch(self) -> None:
        self.first.register_forward_hook(lambda m, x, y: setattr(self, "kept", y))


class GrabbingPart(Grabbing):
    """The hook stands on a module that could be a part."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(conv(3, 8), nn.ReLU())
        self.watch()

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(self.first(x))
        return (y * 2 if y.sum() > 1e9 else y) + 3 * self.kept


class Remembering(nn.Module):
    """Adds a slow mean of the calls before, which is a plain attribute."""

    def __init__(self, memory: Any, part: bool = False) -> None:
        super().__init__()
        self.first, self.second, self.part = conv(3, 8), conv(8, 8), part
        self.memory = memory

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(self.first(x).relu())
        self.memory = 0.999 * self.memory + 0.001 * y.mean((0, 2, 3), keepdim=True)
        return y + self.memory


class RememberingInABuffer(Remembering):
    def __init__(self) -> None:
        super().__init__(None)
        del self.memory
        self.register_buffer("memory", torch.zeros(1, 8, 1, 1))


class Reading(nn.Module):
    """Adds an attribute that others set."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.given = conv(3, 8), torch.zeros(1, 8, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + self.given


class Setting(nn.Module):
    """Sets an attribute of a module that it then calls."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner = nn.Conv2d(3, 8, 1), Reading()

    def forward(self, x: Tensor) -> Tensor:
        self.inner.given = 3 * self.first(x * 2 if x.sum() > 1e9 else x)
        return self.inner(x)


class Around(nn.Module):
    """Lets no program be the whole model."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x)
        return y * 2 if y.sum() > 1e9 else y


class Showing(nn.Module):
    """Stores a value for others to look at, which no call reads."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = conv(3, 8), conv(8, 8)
        self.shown: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.shown = self.first(x).relu()
        return self.second(self.shown)


def batches(count: int = 3) -> list[Tensor]:
    return [torch.randn(4, 3, 8, 8) for _ in range(count)]


def agrees(made: nn.Module, model: nn.Module) -> bool:
    with torch.no_grad():
        ratios = [sqnr(model(x), made(x)) for x in batches()]
    return all(ratio is None or ratio > 20 for ratio in ratios)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "hook": Grabbing,
    "hook on a part": GrabbingPart,
    "tensor": lambda: Remembering(torch.zeros(1, 8, 1, 1)),
    "number": lambda: Remembering(0.0),
    "buffer": RememberingInABuffer,
    "tensor of a part": lambda: Around(Remembering(torch.zeros(1, 8, 1, 1))),
    "set from outside": Setting,
    "shown": Showing,
}
REASONS = {
    "hook": {"first": "it has forward hooks, which a program does not call"},
    "hook on a part": {"first": "it has forward hooks, which a program does not call"},
    "tensor": {"": "it stores a value that a later call may read, 'memory'"},
    "number": {"": "it stores a value that a later call may read, 'memory'"},
    "buffer": {"": "it stores a value that a later call may read, 'memory'"},
    "tensor of a part": {"inner": "it stores a value that a later call may read, 'inner.memory'"},
    "set from outside": {"inner": "the code around it sets its attribute 'given'"},
}


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_what_a_model_stores_is_neither_frozen_nor_lost(name: str, used: bool) -> None:
    model, data = MODELS[name]().eval(), batches()
    with torch.no_grad():
        if used:
            model(data[0])
    before = [dict(vars(module)) for module in model.modules()]
    state = {key: value.clone() for key, value in model.state_dict().items()}
    made = quantize(model, data, "fast")
    prepared = prepare_qat(model, data[0]).eval()
    for module, kept in zip(model.modules(), before, strict=True):
        assert all(vars(module)[key] is value for key, value in kept.items())
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    split = made.split if isinstance(made, PartlyInt8Model) else {}
    assert REASONS.get(name, {}).items() <= split.items()
    assert any(row.precision == "int8" for row in made.table())
    assert agrees(made, model)
    assert agrees(prepared, model)


def test_a_value_that_is_only_shown_leaves_the_model_whole() -> None:
    model = Showing().eval()
    model(batches(1)[0])
    assert isinstance(quantize(model, batches(), "fast"), Int8Model)


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("how", ["quantize", "prepare"])
def test_a_hook_that_means_the_original_is_refused(used: bool, how: str) -> None:
    model, data = Closed().eval(), batches()
    if used:
        model(data[0])
    kept = model.kept
    with pytest.raises(UnsupportedError, match="Closed: a copy of the model does not compute"):
        quantize(model, data) if how == "quantize" else prepare_qat(model, data[0])
    assert model.kept is kept


def test_a_hook_in_a_part_that_only_looks_is_not_lost() -> None:
    seen: list[int] = []
    inner = nn.Sequential(conv(3, 8), nn.ReLU(), nn.Sequential(conv(8, 8)))
    model = Around(inner).eval()
    inner[2].register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    made = quantize(model, batches(), "fast")
    assert isinstance(made, PartlyInt8Model)
    assert list(made.parts) == ["inner.0", "inner.2.0"]
    seen.clear()
    made(batches(1)[0])
    assert seen == [4]


def test_varied_inputs_keep_signs_order_and_bounds() -> None:
    x = torch.tensor([[0.0, 1.0, -2.0], [-1.0, float("-inf"), 0.5]])
    got = varied({"x": (x, torch.tensor(2.0)), "ids": [torch.tensor([3, 1, 2])], "flag": True})
    ramp = torch.tensor([0.5, 0.75, 1.0])
    assert torch.equal(got["x"][0], x * ramp)
    assert got["x"][1] == 2.0
    assert got["ids"][0].tolist() == [2, 1, 3]
    assert got["flag"] is True


def test_inputs_that_the_model_does_not_take_tell_nothing() -> None:
    class Strict(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = conv(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            if float(x.amax()) < 1:
                raise ValueError("not an image")
            return self.conv(x)

    data = [torch.ones(2, 3, 8, 8) - torch.eye(8)]
    data[0][..., -1] = 0
    with pytest.raises(ValueError, match="not an image"):
        Strict()(varied(data[0]))
    made = quantize(Strict().eval(), data, "fast")
    assert isinstance(made, PartlyInt8Model)
    assert list(made.parts) == ["conv"]

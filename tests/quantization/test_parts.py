"""Which modules of a model become programs: found by what the model does, not by its class."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection import ssdlite320_mobilenet_v3_large

from torchcompress.core.errors import CalibrationError
from torchcompress.quantization.calibrate import Batches
from torchcompress.quantization.parts import Partition, find_parts
from torchcompress.quantization.sources import Source


def split(model: nn.Module, *batches: Any, exclude: tuple[str, ...] = ()) -> Partition:
    return find_parts(model, Batches(list(batches), None, torch.device("cpu")), exclude)


def block(channels: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, 4, 1), nn.ReLU())


def x(size: int = 4, channels: int = 3) -> Tensor:
    return torch.randn(2, channels, size, size)


class Host(nn.Module):
    """Calls its parts from code that no symbolic trace can follow."""

    def __init__(self, run: Callable[["Host", Tensor], Any], **parts: nn.Module) -> None:
        super().__init__()
        self.run = run
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Any:
        if float(x.abs().amax()) > 1e6:
            raise ValueError("too large")
        return self.run(self, x)

    def part(self, name: str) -> nn.Module:
        return self.get_submodule(name)


def test_what_can_be_read_whole_is_one_part() -> None:
    model = block().train()
    found = split(model, x())
    assert list(found.parts) == [""]
    assert found.split == {}
    assert model.training
    assert not model._forward_hooks
    assert not model[0]._forward_pre_hooks


def test_the_largest_readable_modules_are_the_parts() -> None:
    inner = Host(lambda m, x: m.part("b")(m.part("a")(x)), a=block(), b=block(4))
    model = Host(lambda m, x: m.part("tail")(m.part("inner")(x)), inner=inner, tail=block(4))
    found = split(model, x())
    assert list(found.parts) == ["inner.a", "inner.b", "tail"]
    assert list(found.split) == ["", "inner"]
    assert all("cannot be followed" in reason for reason in found.split.values())
    source = found.parts["inner.b"].sources["inner.b.0"]
    assert isinstance(source, Source)
    assert source.weight == "inner.b.0.weight"


def test_a_branch_that_a_later_batch_takes_is_found() -> None:
    def run(m: Host, x: Tensor) -> Tensor:
        return m.part("up")(x) if x.mean() > 0 else m.part("down")(x)

    model = Host(run, up=block(), down=block())
    up, down = x().abs(), -x().abs()
    found = split(model, up, up, down)
    assert list(found.parts) == ["up", "down"]
    assert found.parts["down"].batches.first_index == 2
    with pytest.raises(
        CalibrationError, match=r"down\.0, calibration batches 0 to 1: calibration never ran"
    ):
        split(model, up, up)
    assert list(split(model, up, exclude=("down*",)).parts) == ["up"]


def test_only_empty_calls_are_no_calls() -> None:
    model = Host(lambda m, x: m.part("a")(x[:0]), a=block())
    with pytest.raises(CalibrationError, match=r"a\.0, calibration batch 0: calibration never"):
        split(model, x())


@pytest.mark.parametrize(
    ("run", "parts", "reason"),
    [
        (lambda m, x: m.a(x) + m.a(x[None, 0]), ["a"], ""),
        (lambda m, x: m.a(x) + m.a(input=x), ["a"], ""),
        (lambda m, x: m.a.forward(x), ["a.0"], ""),
        (lambda m, x: m.a(x) + m.a.own(x), ["a.0"], "reads its attribute 'own'"),
        (lambda m, x: m.a(x) + m.a[0](x), ["a.0"], "the module itself: 'Probe' object is not"),
        (lambda m, x: m.a(x) + m.a.get_submodule("0").weight.sum(), [], "its attribute '0'"),
    ],
)
def test_a_part_is_only_called(
    run: Callable[[Any, Tensor], Any], parts: list[str], reason: str
) -> None:
    class Block(nn.Sequential):
        def own(self, x: Tensor) -> Tensor:
            return x.sum()

    found = split(Host(run, a=Block(*block())), x())
    assert list(found.parts) == parts
    assert reason in found.split.get("a", "")


def test_plain_attributes_may_be_read() -> None:
    class Sized(nn.Sequential):
        width = 4

        def __init__(self) -> None:
            super().__init__(nn.Conv2d(3, 4, 1))
            self.sizes = [2, (3, "a")]

    model = Host(lambda m, x: m.part("a")(x) * m.part("a").sizes[0], a=Sized())  # pyright: ignore
    assert list(split(model, x()).parts) == ["a"]


def test_a_module_that_writes_into_its_inputs_is_no_part() -> None:
    def run(m: Host, x: Tensor) -> Tensor:
        x = x * 2
        return m.part("a")(x).sum(1, keepdim=True) + x

    first = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(3, 4, 1))
    found = split(Host(run, a=first), x())
    assert list(found.parts) == ["a.1"]
    assert found.split["a"] == "it writes into its inputs"


def test_what_a_trace_does_not_see_is_split() -> None:
    class Aliased(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            z = y
            y += 1.0
            return y * z

    found = split(Aliased(), x())
    assert list(found.parts) == ["conv"]
    assert "does not compute what the model computes" in found.split[""]


def test_calls_that_no_program_holds_are_told() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor, scale: Any = 1.0) -> Tensor:
            return self.conv(x) * (1.0 if scale is None else float(scale))

    two = split(Host(lambda m, x: m.part("a")(x) + m.part("a")(x, 2.0), a=Pair()), x())
    assert two.split["a"] == "it is called in different ways"
    odd = split(
        Host(lambda m, x: m.part("a")(x, object) if x is None else m.part("a")(x, None), a=Pair()),
        x(),
    )
    assert list(odd.parts) == ["a"]
    device = split(Host(lambda m, x: m.part("a")(x, torch.float32.itemsize), a=Pair()), x())
    assert list(device.parts) == ["a"]


def test_calls_of_other_ranks_need_another_program() -> None:
    class Added(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.conv(x) + y

    model = Host(lambda m, x: m.part("a")(x, x) + m.part("a")(x, x[:1]), a=Added())
    found = split(model, x())
    assert list(found.parts) == ["a.conv"]
    assert found.split["a"] == "its calls differ in the shapes that meet"


def test_a_shared_module_is_one_part() -> None:
    shared = block(3)
    pair = nn.ModuleList([shared, shared])
    model = Host(lambda m, x: m.part("pair.0")(x) + m.part("pair.1")(2 * x), pair=pair)
    assert list(split(model, x()).parts) == ["pair.0"]


def test_a_weight_that_only_functions_read_needs_no_call() -> None:
    model = Host(
        lambda m, x: F.conv2d(m.part("a")(x), m.part("own").weight),  # pyright: ignore
        a=block(),
        own=nn.Conv2d(4, 2, 1),
    )
    found = split(model, x())
    assert list(found.parts) == ["a"]
    assert "own" not in found.record.first


def test_macs_of_each_module_are_those_of_one_sample() -> None:
    model = Host(
        lambda m, x: (m.part("a")(x), m.part("a")(x), x.flatten(2) @ x.flatten(2).mT), a=block()
    )
    macs = split(model, x(), x()).record.macs
    assert macs["a.0"] == 2 * 16 * 3 * 4
    assert macs["a"] == 0
    assert macs[""] == 3 * 3 * 16


def test_a_detector() -> None:
    model = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=3)
    before = copy.deepcopy(model.state_dict())
    images = [torch.rand(3, 64, 64), torch.rand(3, 64, 48)]
    found = split(model.train(), ((images,),))
    assert list(found.parts) == ["backbone", "head"]
    assert len(found.parts["head"].program.inputs) == 6
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())

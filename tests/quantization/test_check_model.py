"""What is refused, and what is quantized although it looks odd."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from int8_networks import Branching, both_ways, quantize_partly, quantize_whole
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
from torch.nn.utils.parametrize import is_parametrized

from torchcompress.core.errors import CalibrationError, CompressError, UnsupportedError
from torchcompress.quantization import (
    Int8Model,
    QuantizationConfig,
    check_quantizable,
    drafted,
    quantize,
)
from torchcompress.quantization.sqnr import sqnr

DATA = both_ways()


def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))


class Fake(nn.Module):
    __module__ = "torch.ao.nn.quantized.modules.conv"


def with_value(name: str, value: float) -> nn.Module:
    model = net()
    with torch.no_grad():
        model.state_dict()[name].view(-1)[1] = value
    return model


def in_int8(model: nn.Module) -> nn.Module:
    return nn.Sequential(quantize(model.eval(), DATA), nn.ReLU())


@pytest.mark.parametrize(
    ("build", "match"),
    [
        (lambda: quantize(net(), DATA), "Int8Model: the model is int8 already"),
        (lambda: quantize(Branching(), DATA), "the model is int8 already"),
        (lambda: in_int8(net()), "0: the model is int8 already"),
        (lambda: nn.Sequential(net(), Fake()), "1: the model is int8 already"),
        (lambda: net().half(), r"0\.weight: is torch\.float16, not float32"),
        (lambda: net().bfloat16(), r"0\.weight: is torch\.bfloat16, not float32"),
        (lambda: Branching().double(), r"stem\.0\.weight: is torch\.float64, not float32"),
        (lambda: with_value("3.weight", float("nan")), r"3\.weight: holds NaN or infinity"),
        (lambda: with_value("3.bias", float("inf")), r"3\.bias: holds NaN or infinity"),
        (lambda: with_value("1.running_var", float("nan")), r"1\.running_var: holds NaN"),
        (lambda: nn.Sequential(nn.LazyConv2d(4, 3)), r"0\.weight: is a lazy, meta or sparse"),
        (lambda: net().to("meta"), r"0\.weight: is a lazy, meta or sparse tensor"),
        (lambda: nn.Sequential(nn.DataParallel(net())), "0: is wrapped in DataParallel"),
        (lambda: torch.jit.trace(net().eval(), DATA[0]), "is a scripted model"),
        (lambda: nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3)), "nothing in this model can be"),
        (lambda: nn.Sequential(nn.LSTM(6, 4)), "nothing .*: 0: the module LSTM cannot be quant"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:FutureWarning")
@pytest.mark.filterwarnings("ignore:Lazy modules:UserWarning")
def test_what_is_refused(build: Callable[[], nn.Module], match: str) -> None:
    model = build()
    data = [torch.randn(5, 2, 6)] if isinstance(next(model.children()), nn.LSTM) else DATA
    with pytest.raises(UnsupportedError, match=match):
        quantize(model, data)
    with pytest.raises(UnsupportedError, match=match):
        check_quantizable(model, data[0])


def test_what_is_no_module() -> None:
    model: Any = lambda x: x  # noqa: E731
    with pytest.raises(CompressError, match=r"a model is a torch\.nn\.Module, not function"):
        quantize(model, DATA)


@pytest.mark.parametrize("build", [net, Branching])
@pytest.mark.parametrize(
    ("data", "match"),
    [
        ([], "calibration: the loader yielded nothing"),
        (None, "NoneType does not yield batches"),
        ([*DATA, torch.full_like(DATA[0], float("nan"))], "batch 2: the input is not finite"),
        ([DATA[0].half(), *DATA], "batch 0: the model cannot run on it"),
        ([DATA[0].to("meta")], "batch 0: the input is on the meta device"),
        ([(DATA[0][:, :2],), *DATA], "batch 0: the model cannot run on it"),
        ([*DATA, "x"], "a batch is a tensor, a dict or a tuple, not str"),
    ],
)
def test_unusable_data(build: Callable[[], nn.Module], data: Any, match: str) -> None:
    with pytest.raises(CompressError, match=match):
        quantize(build().eval(), data)


def test_an_overflow_inside_a_part_names_layer_and_batch() -> None:
    huge = torch.full_like(DATA[0], 3e38)
    model = Branching().eval()
    nn.init.constant_(model.get_parameter("stem.0.weight"), 2.0)
    with pytest.raises(
        CalibrationError, match=r"stem\.0, calibration batch 2: the output is not finite"
    ):
        quantize(model, [*DATA, huge])


def test_a_step_that_fails_leaves_no_model_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(drafted, "finish", fail)
    with pytest.raises(RuntimeError, match="out of luck"):
        quantize(Branching().eval(), DATA)


def test_everything_left_out_is_nothing_quantized() -> None:
    for build in (net, Branching):
        with pytest.raises(UnsupportedError, match="nothing in this model can be quantized"):
            quantize(build().eval(), DATA, QuantizationConfig(exclude=("*",)))


def test_wrappers_are_looked_into() -> None:
    model = net().eval()
    want = quantize_whole(model, DATA)
    for wrapped in (nn.DataParallel(model), torch.compile(model)):
        assert isinstance(wrapped, nn.Module)
        assert torch.equal(quantize_whole(wrapped, DATA)(DATA[0]), want(DATA[0]))


def test_parametrized_weights_are_quantized_as_they_stand() -> None:
    model = net().eval()
    weight_norm(model[0])
    spectral_norm(model[3])
    plain = net().eval()
    plain.load_state_dict({**plain.state_dict(), **model.state_dict()}, strict=False)
    with torch.no_grad():
        for mine, theirs in zip(plain, model, strict=True):
            if isinstance(mine, nn.Conv2d) and isinstance(theirs, nn.Conv2d):
                mine.weight.copy_(theirs.weight)
    made = quantize_whole(model, DATA)
    assert torch.equal(made(DATA[0]), quantize_whole(plain, DATA)(DATA[0]))
    assert is_parametrized(model[0])
    assert made.plan is not None
    assert torch.equal(made.plan.apply(model)(DATA[0]), made(DATA[0]))


class Custom(nn.Module):
    """A layer of a user's own, whose weight is no convolution's."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tensordot(x.movedim(1, -1), self.weight.tril(), 1).movedim(-1, 1)


def test_a_custom_layer_stays_float_and_is_listed() -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), Custom(), nn.Conv2d(3, 4, 1)).eval()
    made = quantize_partly(model, DATA)
    rows = {row.name: row for row in made.table()}
    assert {name: row.precision for name, row in rows.items()} == {
        "0": "int8",
        "2": "int8",
        "1": "float",
    }
    assert rows["1"].reason.endswith("cannot be quantized")
    assert rows["1"].macs == 36 * 9
    share = made.int8_share()
    assert share == pytest.approx((9 + 12) / (9 + 9 + 12))
    ratio = sqnr(model(DATA[0]), made(DATA[0]))
    assert ratio is not None
    assert ratio > 30
    left_out = quantize_partly(model, DATA, QuantizationConfig(exclude=("1",)))
    assert left_out.table()[2].reason == "excluded by the configuration"


def test_inputs_elsewhere_or_of_other_types() -> None:
    made = quantize_whole(net().eval(), DATA)
    with pytest.raises(CompressError, match="the input is on meta, the model on cpu"):
        made(DATA[0].to("meta"))
    torch.testing.assert_close(made(DATA[0].double()), made(DATA[0]))
    assert made(DATA[0].bfloat16()).dtype == torch.float32
    with pytest.raises(TypeError, match="must be a floating-point tensor"):
        made(DATA[0].long())


def test_a_device_move_and_back_changes_nothing() -> None:
    made = quantize_whole(net().eval(), DATA)
    before = made(DATA[0])
    assert isinstance(made.to("cpu"), Int8Model)
    assert torch.equal(made(DATA[0]), before)
    with pytest.raises(UnsupportedError, match="an int8 model keeps its dtypes"):
        made.half()

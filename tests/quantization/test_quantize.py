"""From a model to int8: whole models, and the faults that users of such tools meet."""

import copy
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from int8_networks import quantize_whole
from torch import Tensor, nn
from torchvision.models import get_model

from torchcompress.core.errors import CompressError, UnsupportedError
from torchcompress.quantization import (
    Int8Model,
    PartlyInt8Model,
    QuantizationConfig,
    interpreter,
    quantize,
)
from torchcompress.quantization.int8 import kernels, reference
from torchcompress.quantization.int8.selftest import agree
from torchcompress.quantization.operations import Function, Tensors
from torchcompress.quantization.program import Op
from torchcompress.quantization.qat import QATConfig, convert, prepare_qat
from torchcompress.quantization.sqnr import sqnr

Lively = Callable[[nn.Module], nn.Module]
Decibels = Callable[[nn.Module, Tensor], float]


def kinds(model: Int8Model) -> list[str]:
    return [op.kind for op in model.program.ops]


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("resnet18", 25.0),
        ("mobilenet_v2", 20.0),
        ("mobilenet_v3_small", 20.0),
        ("shufflenet_v2_x0_5", 20.0),
        ("densenet121", 20.0),
    ],
)
def test_families(name: str, least: float, lively: Lively) -> None:
    """Close to float, and every native kernel within one step of the reference."""
    model = lively(get_model(name, weights=None, num_classes=10))
    x = torch.randn(4, 3, 32, 32)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with warnings.catch_warnings():
        # Random weights give the branches of a concatenation very uneven ranges.
        warnings.filterwarnings("ignore", ".*concatenated branches", UserWarning)
        quantized = quantize_whole(model, [x])
    assert all(row.precision == "int8" for row in quantized.table())
    with torch.no_grad():
        ratio = sqnr(model(x), quantized(x))
    assert ratio is not None
    assert ratio > least
    after = model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)

    def compared(op: Op, types: Any, tensors: Tensors, shapes: Any) -> Function:
        """Returns the reference of an op, compared with the native kernel where it runs."""
        exact = reference.bind(op, types, tensors)
        native = kernels.bind(op, types, tensors, shapes)

        def run(*operands: Any) -> Any:
            want, got = exact(*operands), native(*operands)
            assert agree(got, want) if isinstance(want, Tensor) else got == want, op.name
            return want

        return run

    images = torch.randn(1, 3, 40, 32)
    interpreter.run(quantized.program, quantized.tensors, [images], bind=compared)


def test_a_residual_network_crosses_between_float_and_int8_only_at_its_ends() -> None:
    model = quantize_whole(
        get_model("resnet18", weights=None).eval(), [torch.randn(2, 3, 32, 32)], "fast"
    )
    assert kinds(model).count("quantize") == 1
    assert kinds(model).count("dequantize") == 0


class ReluTwice(nn.Module):
    """One ReLU module and one convolution, each called on two scales."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.conv = nn.Conv2d(3, 4, 1, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.conv(self.relu(x)), self.conv(self.relu(100 * x))


def test_ranges_belong_to_calls() -> None:
    x = torch.randn(4, 3, 6, 6)
    model = ReluTwice().eval()
    quantized = quantize_whole(model, [x])
    grids = [op.out for op in quantized.program.ops if op.kind == "quantize"]
    assert len(grids) == 2
    assert grids[0] is not None
    assert grids[1] is not None
    assert grids[1].scale == pytest.approx(100 * grids[0].scale, rel=0.05)
    assert [row.name for row in quantized.table()] == ["conv", "conv#2"]
    assert set(quantized.tensors) == {"conv.weight", "conv.scale", "conv.bias"}
    for got, want in zip(quantized(x), model(x), strict=True):
        ratio = sqnr(want, got)
        assert ratio is not None
        assert ratio > 35


def test_basic_block_of_torchvision() -> None:
    x = torch.randn(4, 3, 32, 32)
    table = quantize(get_model("resnet18", weights=None).eval(), [x], "fast").table()
    block = {row.name: row.scale for row in table if row.name.startswith("layer1.0")}
    assert block["layer1.0.conv1"] != block["layer1.0.conv2"]


def test_the_original_keeps_its_settings_and_mode() -> None:
    norm, dropout = nn.BatchNorm2d(4, eps=1e-3, momentum=0.01), nn.Dropout(0.2)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), norm, dropout).train()
    quantized = quantize_whole(model, [torch.randn(4, 3, 5, 5)])
    assert (norm.eps, norm.momentum, dropout.p) == (1e-3, 0.01, 0.2)
    assert all(module.training for module in model.modules())
    assert not quantized.training
    assert kinds(quantized) == ["quantize", "conv2d"]


def test_depthwise_channels_of_very_different_size() -> None:
    conv = nn.Conv2d(6, 6, 3, groups=6, padding=1, bias=False)
    with torch.no_grad():
        conv.weight *= torch.logspace(0, -5, 6).view(6, 1, 1, 1)
        x = torch.randn(8, 6, 9, 9)
        want, got = conv(x), quantize(nn.Sequential(conv), [x])(x)
    for channel in range(6):
        ratio = sqnr(want[:, channel], got[:, channel])
        assert ratio is not None
        assert ratio > 30


def test_a_zero_channel_and_a_gamma_of_zero_give_their_bias_exactly() -> None:
    conv, norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4).eval()
    with torch.no_grad():
        conv.weight[1], norm.bias[1] = 0.0, 5.0
        norm.weight[2], norm.bias[2] = 0.0, -2.5
        norm.weight[3] = -1.0
    x = torch.randn(4, 3, 6, 6)
    with torch.no_grad():
        norm.running_mean[1] = conv.bias[1]  # pyright: ignore
    got = quantize(nn.Sequential(conv, norm).eval(), [x])(x)
    assert torch.isfinite(got).all()
    assert bool((got[:, 1] == 5.0).all())
    assert bool((got[:, 2] == -2.5).all())


def test_inputs_in_10_to_11_keep_their_padding_exact() -> None:
    conv = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    with torch.no_grad():
        conv.weight.fill_(1.0)
    x = 10 + torch.rand(4, 1, 5, 5)
    model = nn.Sequential(conv)
    got = quantize(model, [x])(x)
    assert (got - model(x)).abs().max() < 9 * 0.5 * 11 / 255 + 1e-3


class Branches(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.a, self.b, self.factor = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1), factor
        self.tail = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cat([self.a(x), self.factor * self.b(x)], 1)
        return self.tail(y)


def test_uneven_branches_share_a_range_and_are_reported(decibels: Decibels) -> None:
    x = torch.randn(8, 3, 6, 6)
    with pytest.warns(UserWarning, match="cat: concatenated branches differ in range"):
        assert decibels(Branches(10.0), x) > 30


def test_one_value_concatenated_with_itself(decibels: Decibels) -> None:
    class Doubled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.tail = nn.Conv2d(3, 4, 1), nn.Conv2d(8, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.a(x)
            return self.tail(torch.cat([y, y], 1))

    assert decibels(Doubled(), torch.randn(8, 3, 6, 6)) > 35


def test_relu_permute_residual(decibels: Decibels) -> None:
    class Permuted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            y = F.relu(self.a(x)).permute(0, 1, 3, 2)
            return self.b(y) + y

    assert decibels(Permuted(), torch.randn(8, 3, 6, 6)) > 35


def test_a_residual_that_is_read_again_is_not_overwritten(decibels: Decibels) -> None:
    class ReadAgain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            y = F.relu(self.a(x))
            flat = y.flatten(1)
            z = F.relu(self.b(y) + y)
            return z, F.relu(self.b(z) + z), flat + 0.0

    x = torch.randn(4, 3, 6, 6)
    model = ReadAgain().eval()
    quantized = quantize(model, [x])
    for got, want in zip(quantized(x), model(x), strict=True):
        ratio = sqnr(want, got)
        assert ratio is not None
        assert ratio > 30


def test_calibrated_with_8_run_with_1_and_3(lively: Lively) -> None:
    layers = [nn.Conv2d(3, 6, 3, groups=3), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2)]
    head = [nn.Flatten(), nn.Linear(54, 5), nn.BatchNorm1d(5), nn.Hardswish(), nn.Linear(5, 2)]
    model = lively(nn.Sequential(*layers, *head))
    x = torch.randn(8, 3, 8, 8)
    quantized = quantize(model, [x])
    whole = quantized(x)
    for batch in (1, 3):
        torch.testing.assert_close(quantized(x[:batch]), whole[:batch])
    copied = copy.deepcopy(quantized)
    assert torch.equal(copied(x), whole)


def test_a_transposed_convolution_stays_float_and_says_why(decibels: Decibels) -> None:
    for groups in (1, 2):
        up = nn.ConvTranspose2d(4, 6, 3, groups=groups, stride=2)
        model = nn.Sequential(nn.Conv2d(3, 4, 1), up, nn.Conv2d(6, 2, 1)).eval()
        x = torch.randn(4, 3, 6, 6)
        row = quantize(model, [x]).table()[1]
        assert (row.precision, row.reason) == (
            "float",
            "no int8 kernel for a transposed convolution",
        )
        assert decibels(model, x) > 35


def test_average_pooling_and_a_lone_norm_run_in_int8(lively: Lively, decibels: Decibels) -> None:
    layers = [nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 1), nn.AvgPool2d(2), nn.Conv2d(4, 2, 1)]
    model = lively(nn.Sequential(*layers))
    x = torch.randn(8, 3, 8, 8)
    assert kinds(quantize_whole(model, [x])) == [
        "quantize",
        "conv2d",
        "conv2d",
        "avg_pool2d",
        "conv2d",
    ]
    assert decibels(model, x) > 30


def test_pooling_with_padding_stays_float(decibels: Decibels) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AvgPool2d(3, 1, 1), nn.Conv2d(4, 2, 1))
    assert decibels(model, torch.randn(8, 3, 8, 8)) > 35


def test_layers_are_left_out_by_glob() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1)).eval()
    x = torch.randn(4, 3, 5, 5)
    quantized = quantize(model, [x], QuantizationConfig(exclude=("0",)))
    assert [row.precision for row in quantized.table()] == ["float", "int8"]
    assert quantized.table()[0].reason == "excluded by the configuration"
    with pytest.raises(CompressError, match=r"config\.exclude: 'nope\*' matches nothing"):
        quantize(model, [x], QuantizationConfig(exclude=("nope*",)))
    with pytest.raises(UnsupportedError, match="nothing in this model can be quantized"):
        quantize(model, [x], QuantizationConfig(exclude=("*",)))


def test_what_cannot_be_quantized() -> None:
    x = torch.randn(2, 3, 5, 5)
    with pytest.raises(UnsupportedError, match="nothing in this model can be quantized"):
        quantize(nn.ReLU(), [x])
    model = nn.Sequential(nn.Conv2d(3, 4, 1)).eval()
    with pytest.raises(UnsupportedError, match="int8 already"):
        quantize(quantize(model, [x]), [x])
    with pytest.raises(UnsupportedError, match=r"0\.weight: is torch\.bfloat16, not float32"):
        quantize(copy.deepcopy(model).bfloat16(), [x.bfloat16()])
    with torch.no_grad():
        model[0].bias[1] = float("nan")  # pyright: ignore
    with pytest.raises(UnsupportedError, match=r"0\.bias: holds NaN or infinity"):
        quantize(model, [x])


def test_what_a_trace_does_not_see_is_found_out() -> None:
    class Aliased(nn.Module):
        """`z` is `y`; a symbolic trace reads `+=` as a new value."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            z = y
            y += 1.0
            return y * z

    x = torch.randn(2, 3, 4, 4)
    model = Aliased().eval()
    quantized = quantize(model, [x])
    assert isinstance(quantized, PartlyInt8Model)
    assert "does not compute what the model computes" in quantized.split[""]
    ratio = sqnr(model(x), quantized(x))
    assert ratio is not None
    assert ratio > 30


def test_presets() -> None:
    x = torch.randn(1024, 3, 8, 8)
    x[0, 0, 0, 0] = 40.0
    model = nn.Sequential(nn.Conv2d(3, 4, 1)).eval()
    fine, fast = (
        quantize_whole(model, [x], name).program.ops[0].out for name in ("default", "fast")
    )
    assert fine is not None
    assert fast is not None
    assert fine.scale < 0.9 * fast.scale
    with pytest.raises(CompressError, match="did you mean 'default'"):
        quantize(model, [x], "defualt")


class WithTrainingHead(nn.Module):
    """Has a layer that eval mode never runs, whatever the input."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.aux, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 2), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Any:
        x = F.relu(self.stem(x)).mean((2, 3))
        return (self.head(x), self.aux(x)) if self.training else self.head(x)


def test_a_head_of_train_mode_alone_needs_no_calibration() -> None:
    quantized = quantize(WithTrainingHead(), [torch.randn(2, 3, 8, 8)], "fast")
    assert [row.name for row in quantized.table()] == ["stem", "head"]


@pytest.fixture
def _float64_by_default() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("_float64_by_default")
@pytest.mark.parametrize("preset", ["fast", "default"])
def test_the_default_dtype_does_not_matter(preset: str) -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Hardswish(), nn.AvgPool2d(2), nn.MaxPool2d(2)
    )
    model = nn.Sequential(model, nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(72, 4)).float().eval()
    x = torch.randn(4, 3, 14, 14, dtype=torch.float32)
    quantized, prepared = quantize_whole(model, [x], preset), prepare_qat(model, x)
    prepared(x).sum().backward()
    learned = prepare_qat(model, x, QATConfig(learned=True))
    other = torch.randn(2, 3, 14, 14, dtype=torch.float32)
    for made in (quantized, quantized.reference(), convert(prepared), convert(learned)):
        with torch.no_grad():
            got, ratio = made(other), sqnr(model(other), made(other))
        assert got.dtype == torch.float32
        assert ratio is not None
        assert ratio > 20
    tensors = [t for m in (prepared, learned) for t in (*m.parameters(), *m.buffers())]
    assert not any(t.dtype == torch.float64 for t in tensors)

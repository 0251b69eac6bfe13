"""The converted model is what the fake-quantized one computed."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchvision.models import get_model

import torchcompress as tc
from torchcompress.core.errors import UnsupportedError
from torchcompress.quantization import Int8Model, QuantizationPlan
from torchcompress.quantization.int8.reference import bind, grid_of
from torchcompress.quantization.program import Op, QParams
from torchcompress.quantization.qat import QATConfig, convert, prepare_qat
from torchcompress.quantization.qat.fake_quantize import dequantized
from torchcompress.quantization.qat.forward import Forward
from torchcompress.quantization.qat.prepared import quantizers_of
from torchcompress.quantization.sources import Source
from torchcompress.quantization.value_types import infer_types

Lively = Callable[[nn.Module], nn.Module]
Train = Callable[..., nn.Module]


def integers(x: Tensor, grid: QParams) -> Tensor:
    return (x.double() / grid.scale + grid.zero_point).round().clamp(0, 255).to(torch.uint8)


def whole(model: nn.Module) -> Int8Model:
    assert isinstance(model, Int8Model)
    return model


def check_each_operation(model: nn.Module, x: Tensor, monkeypatch: pytest.MonkeyPatch) -> Int8Model:
    """Compares each int8 operation with the reference on the very same integers."""
    int8 = whole(convert(model))
    program, types, tensors = int8.program, infer_types(int8.program), int8.tensors
    compared: list[int] = []
    weights: dict[str, Tensor] = {}
    compute, weight = Forward._compute, Forward._weight

    def on_compute(self: Forward, op: Op, operands: list[Any]) -> Any:
        made = compute(self, op, operands)
        mine = program.ops[self.form.program.ops.index(op)]
        assert (mine.kind, mine.output) == (op.kind, op.output)
        if mine.int8:
            grids = [grid_of(types[value]) for value in mine.inputs]
            inputs = [integers(v, g) for v, g in zip(operands, grids, strict=True)]
            want = bind(mine, grids, tensors)(*inputs)
            if mine.out is None:
                torch.testing.assert_close(made, want, rtol=1e-4, atol=1e-4)
            else:
                got = integers(made, mine.out)
                compared.append(int((got.int() - want.int()).abs().max()))
        return made

    def on_weight(self: Forward, op: Op, source: Any, **options: Any) -> Tensor:
        made = weight(self, op, source, **options)
        weights[str(op.layer)] = made
        return made

    monkeypatch.setattr(Forward, "_compute", on_compute)
    monkeypatch.setattr(Forward, "_weight", on_weight)
    with torch.no_grad():
        model.eval()(x)
    monkeypatch.undo()
    assert compared
    assert max(compared) <= 1
    sources = quantizers_of(model).evaluated.sources
    for key, found in weights.items():
        source = sources[key]
        assert isinstance(source, Source)
        groups = source.transposed_groups
        want = dequantized(tensors[f"{key}.weight"], tensors[f"{key}.scale"], groups)
        assert torch.equal(found, want)
    return int8


@pytest.mark.parametrize("learned", [False, True])
def test_every_integer_is_that_of_the_fake_quantized_forward(
    small: nn.Module,
    images: Tensor,
    train: Train,
    learned: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prepared = train(prepare_qat(small, images, QATConfig(learned=learned)), images)
    int8 = check_each_operation(prepared, images, monkeypatch)
    with torch.no_grad():
        assert (int8(images) - prepared(images)).abs().max() < 0.05 * prepared(images).std()
    assert all(row.precision == "int8" for row in int8.table())


@pytest.mark.filterwarnings("ignore:.*concatenated branches:UserWarning")
@pytest.mark.parametrize(
    "name", ["mobilenet_v3_small", "efficientnet_b0", "shufflenet_v2_x0_5", "densenet121"]
)
def test_families(name: str, lively: Lively, train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    model = lively(get_model(name, weights=None, num_classes=10))
    x = torch.randn(4, 3, 32, 32)
    prepared = train(prepare_qat(model, x), x, steps=2, lr=1e-3)
    check_each_operation(prepared, x, monkeypatch)


def test_grids_are_those_of_the_last_training_forward(small: nn.Module, images: Tensor) -> None:
    prepared = prepare_qat(small, images).train()
    used: list[list[QParams]] = []
    ranges = quantizers_of(prepared).ranges
    begin = ranges.begin
    ranges.begin = lambda: used.append(begin()) or used[-1]
    first = ranges.grids()
    for factor in (1.0, 5.0, 7.0):
        prepared(images * factor)
    del ranges.begin
    int8 = whole(convert(prepared))
    assert used[-1] != first
    grids = [op.out for op in int8.program.ops if op.out is not None]
    assert set(grids) == set(used[-1])
    assert all(torch.tensor(grid.scale).item() == grid.scale for grid in used[-1])


def test_history_and_artifact(
    small: nn.Module, images: Tensor, train: Train, tmp_path: Path
) -> None:
    prepared = train(prepare_qat(small, images, QATConfig(learned=True)), images)
    int8 = convert(prepared)
    (plan,) = tc.history(int8)
    assert isinstance(plan, QuantizationPlan)
    tc.save(int8, tmp_path / "model.tcz")
    loaded = tc.load(tmp_path / "model.tcz")
    assert torch.equal(loaded(images), int8(images))
    # The plan is plain data, and makes the same integers of the same weights.
    again = QuantizationPlan.from_json(plan.to_json()).apply(prepared)
    assert torch.equal(again(images), int8(images))


def test_conversion_changes_nothing_and_may_be_repeated(
    small: nn.Module, images: Tensor, train: Train
) -> None:
    prepared = prepare_qat(small, images)
    before = copy.deepcopy(prepared.state_dict())
    first = convert(prepared)(images)
    after = prepared.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before if torch.is_tensor(before[k]))
    train(prepared, images)
    assert not torch.equal(convert(prepared)(images), first)


def test_what_is_not_prepared_is_refused(small: nn.Module) -> None:
    with pytest.raises(UnsupportedError, match="prepare_qat"):
        convert(small)


def test_a_prepared_model_inside_another_is_named(small: nn.Module, images: Tensor) -> None:
    prepared = prepare_qat(small, images)
    # With its outer names those of the inner model, which must not be taken for them.
    outer = copy.deepcopy(small)
    outer.add_module("inner", prepared)
    for model in (outer, nn.Sequential(nn.Identity(), nn.Sequential(prepared))):
        path = "inner" if model is outer else "1.0"
        with pytest.raises(UnsupportedError, match=rf"(?s){path}: .*convert '{path}' by itself"):
            convert(model)


def test_a_part_is_converted_with_the_model_around_it(images: Tensor) -> None:
    class Routed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))

        def forward(self, x: Tensor) -> Tensor:
            x = self.body(x)
            return x if x.sum() > 1e9 else 2 * x

    prepared = prepare_qat(Routed(), images)
    with pytest.raises(UnsupportedError, match=r"(?s)'body' of a model.*the whole model"):
        convert(prepared.get_submodule("body"))
    with pytest.raises(UnsupportedError, match=r"(?s)m\.body: .*convert 'm' by itself"):
        convert(nn.ModuleDict({"m": prepared}))


def test_an_average_is_converted(small: nn.Module, images: Tensor, train: Train) -> None:
    prepared = prepare_qat(small, images)
    average = AveragedModel(prepared, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=True)
    train(prepared, images)
    average.update_parameters(prepared)
    train(prepared, images)
    average.update_parameters(prepared)
    made = whole(convert(average))
    assert torch.equal(made(images), convert(average.module)(images))
    assert not torch.equal(made(images), convert(prepared)(images))


def test_other_doors_say_that_a_prepared_model_is_to_be_converted(
    small: nn.Module, images: Tensor, tmp_path: Path
) -> None:
    prepared = prepare_qat(small, images)
    doors: list[Callable[[nn.Module], object]] = [
        lambda model: tc.export_onnx(model, tmp_path / "m.onnx", images),
        lambda model: tc.save(model, tmp_path / "m.tcz"),
        lambda model: tc.compile(model, images),
        lambda model: tc.quantize(model, [images]),
    ]
    for model in (prepared, nn.Sequential(prepared)):
        for door in doors:
            with pytest.raises(UnsupportedError, match=r"is prepared for.*\n?.*tc\.convert"):
                door(model)
    assert not list(tmp_path.iterdir())

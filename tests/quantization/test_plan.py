import copy
import json
from dataclasses import replace

import pytest
import torch
from int8_networks import quantize_whole
from torch import fx, nn
from torchvision.models import resnet18

from torchcompress.core.errors import ArtifactError, CompressError, UnsupportedError
from torchcompress.core.history import Architecture, architecture, history, remember_architecture
from torchcompress.core.plan import plan_from_json, plan_to_json
from torchcompress.quantization import Int8Model, QuantizationConfig, QuantizationPlan
from torchcompress.quantization.adjustments import Adjustment
from torchcompress.quantization.config import Rounding
from torchcompress.quantization.learned import LearnedWeight
from torchcompress.quantization.sqnr import sqnr


def net(seed: int = 0, hidden: int = 8) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = [nn.Conv2d(3, hidden, 3), nn.BatchNorm2d(hidden), nn.ReLU(), nn.Conv2d(hidden, 2, 1)]
    return nn.Sequential(*layers).eval()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(4, 3, 8, 8)


def plan_of(model: Int8Model) -> QuantizationPlan:
    plan = model.plan
    assert isinstance(plan, QuantizationPlan)
    return plan


def test_applied_to_a_fresh_copy_it_gives_the_same_bits(
    x: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = resnet18(weights=None, num_classes=4).eval()
    images = torch.randn(2, 3, 32, 32)
    quantized = quantize_whole(model, [images], "fast")
    fresh = resnet18(weights=None, num_classes=4)
    fresh.load_state_dict(model.state_dict())

    def no_trace(*args: object) -> None:
        raise AssertionError("traced again")

    monkeypatch.setattr(fx.Tracer, "trace", no_trace)
    plan = plan_from_json(json.loads(json.dumps(plan_to_json(plan_of(quantized)))))
    assert plan == quantized.plan
    assert torch.equal(plan.apply(fresh)(images), quantized(images))


def test_it_quantizes_the_weights_that_it_is_given(x: torch.Tensor) -> None:
    first, second = net(0), net(1)
    plan = plan_of(quantize_whole(first, [x]))
    with torch.no_grad():
        gap = (plan.apply(second)(x) - second(x)).abs().max()
        assert gap < 0.3 * (first(x) - second(x)).abs().max()


def test_the_first_tensor_that_does_not_fit_is_named(x: torch.Tensor) -> None:
    plan = plan_of(quantize_whole(net(), [x]))
    with pytest.raises(CompressError, match=r"0\.weight: has shape \[6, 3, 3, 3\], the plan \[8"):
        plan.apply(net(hidden=6))
    with pytest.raises(CompressError, match=r"0\.weight: the model has no such tensor"):
        plan.apply(nn.Sequential(nn.Identity()))
    with pytest.raises(UnsupportedError, match=r"0\.weight: is torch\.float16"):
        plan.apply(net().half())
    with pytest.raises(UnsupportedError, match="new module"):
        plan.apply(net(), inplace=True)


def test_history_and_architecture_are_inherited(x: torch.Tensor) -> None:
    model = net()
    remember_architecture(model, Architecture("resnet18"))
    quantized = copy.deepcopy(quantize_whole(model, [x]))
    assert history(quantized) == (quantized.plan,)
    assert architecture(quantized) == Architecture("resnet18")
    assert history(model) == ()


def test_it_prints_as_a_table(x: torch.Tensor) -> None:
    lines = str(plan_of(quantize_whole(net(), [x]))).splitlines()
    assert lines[0] == "2 of 2 layers in int8, 100.0 % of the MACs"
    assert lines[2].split()[:3] == ["0", "conv2d", "int8"]


def test_other_data_is_not_a_plan() -> None:
    for data in ({}, {"program": {}, "sources": [], "rows": []}, {"sources": {"a": {}}}):
        with pytest.raises(ArtifactError):
            QuantizationPlan.from_json(data)


def test_adjustments_stand_in_json_and_learned_rounding_does_not(x: torch.Tensor) -> None:
    model = net()
    plan = plan_of(quantize_whole(model, [x], "fast"))
    plain = plan.apply(model).tensors["0.weight"]
    moved = torch.where(plain > 0, plain - 1, plain)
    shift, steps = (0.25,) * 8, (0.5,) * 8
    adjustment = Adjustment(shift=shift, steps=steps)
    part = plan.parts[""]
    adjusted = replace(part, adjustments={"0": adjustment})
    nearest = adjusted.build(model.state_dict())[0].tensors
    learned = {"0": LearnedWeight.of("0", moved, nearest)}
    part = replace(adjusted, learned=("0",), integers=learned)
    made = replace(plan, parts={"": part})
    applied = made.apply(model).tensors
    assert torch.equal(applied["0.weight"], moved)
    before = plan.apply(model).tensors
    torch.testing.assert_close(applied["0.bias"], before["0.bias"] + 0.25)
    torch.testing.assert_close(applied["0.scale"], before["0.scale"] / 2)
    again = plan_from_json(json.loads(json.dumps(plan_to_json(made))))
    assert again == made
    with pytest.warns(UserWarning, match=r"learned rounding of 1 layers \(0"):
        nearest = again.apply(model)
    assert isinstance(nearest, Int8Model)
    assert int(nearest.tensors["0.weight"].abs().max()) == 127
    saturated = (plain.int() * 2).clamp(-127, 127)
    assert int((nearest.tensors["0.weight"].int() - saturated).abs().max()) <= 1


@pytest.mark.parametrize("rounding", ["gptq", "adaround"])
def test_learned_rounding_is_not_used_for_other_weights(rounding: Rounding) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4),
    ).eval()  # fmt: skip
    data = [torch.randn(8, 3, 12, 12) for _ in range(8)]
    config = QuantizationConfig(
        placement="all", equalization=False, bias_correction=False, rounding=rounding
    )
    plan = plan_of(quantize_whole(model, data, config))
    learned = plan.parts[""].integers
    assert len(learned) == 3
    again = plan.apply(model).tensors  # No warning: these are the weights that it was learned from.
    assert all(torch.equal(again[f"{key}.weight"], known.weight) for key, known in learned.items())

    tuned = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in tuned.parameters():
            parameter += 0.2 * parameter.abs().mean() * torch.randn_like(parameter)
    with pytest.warns(UserWarning, match=r"learned rounding of 3 layers .* other weights"):
        made = plan.apply(tuned)
    with torch.no_grad():
        plain = sqnr(tuned(data[0]), quantize_whole(tuned, data, "fast")(data[0]))
        found = sqnr(tuned(data[0]), made(data[0]))
    assert plain is not None
    assert found is not None
    assert found > plain - 3

    # One layer that changed takes nothing from the others.
    with torch.no_grad():
        tuned.load_state_dict(model.state_dict())
        tuned.get_parameter("2.weight").mul_(1.001)
    with pytest.warns(UserWarning, match=r"of 1 layers \(2"):
        partly = plan.apply(tuned).tensors
    assert torch.equal(partly["0.weight"], learned["0"].weight)
    assert not torch.equal(partly["2.weight"], learned["2"].weight)

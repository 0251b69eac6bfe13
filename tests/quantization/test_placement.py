"""Placement with invented times, and what becomes of a layer that stays in float32."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from torchcompress.errors import UnsupportedError
from torchcompress.quantization import Int8Model, QuantizationConfig, QuantizationPlan, quantize
from torchcompress.quantization import placement as module
from torchcompress.quantization.placement import Call, call_seconds, slower_layers
from torchcompress.quantization.program import Op, Program, QParams
from torchcompress.quantization.qat import prepare_qat
from torchcompress.quantization.quantize import plan_quantization

CONV = {"stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], "groups": 1, "activation": None}
GRIDS: dict[str, QParams] = dict.fromkeys(("v0", "v1", "v2", "v3"), QParams(0.1, 3))
Seconds = Callable[[Call], float]


def three_layers(times: Seconds) -> list[str]:
    """Returns which of three convolutions in a row stay float."""
    padded = {**CONV, "padding": [1, 1]}
    ops = tuple(
        Op("conv2d", f"v{n}", (f"v{n - 1}",), padded if n == 2 else CONV, f"l{n}")
        for n in (1, 2, 3)
    )
    shapes = {f"v{n}": (4, 8, 5, 5) for n in range(4)}
    found = slower_layers(
        Program((("x", "v0"),), ops, "v3"),
        {"v1", "v2", "v3"},
        GRIDS,
        {"l1": (8, 8, 1, 1), "l2": (8, 8, 3, 3), "l3": (8, 8, 1, 1)},
        shapes,
        times,
    )
    return list(found)


def test_a_slower_layer_pays_for_its_crossings() -> None:
    """The middle layer in float32 adds a quantization after it; the first spares one."""

    def times(crossing: float, gain: float) -> Seconds:
        def seconds(call: Call) -> float:
            if call.op.kind != "conv2d":
                return crossing
            integer = isinstance(call.types[0], QParams)
            return gain if integer and call.op.layer == "l2" else 1.0

        return seconds

    assert three_layers(times(0.0, 1.09)) == []
    assert three_layers(times(0.0, 1.2)) == ["v2"]
    assert three_layers(times(1.0, 1.2)) == []


def test_faster_at_one_batch_size_is_not_enough() -> None:
    def seconds(call: Call) -> float:
        integer = isinstance(call.types[0], QParams)
        return 3.0 if integer and call.shapes[0][0] == 1 else 1.0

    assert three_layers(seconds) == []


def test_each_setting_is_timed_once() -> None:
    seen: list[str] = []

    def seconds(call: Call) -> float:
        seen.append(call.key)
        return 1.0

    three_layers(seconds)
    assert len(seen) == len(set(seen))


def test_a_call_is_really_timed() -> None:
    op = Op("conv2d", "v1", ("v0",), CONV, "l", int8=True)
    for kind in ("float", QParams(0.1, 3)):
        call = Call(op, (kind,), ((1, 8, 5, 5),), (8, 8, 1, 1))
        assert 0 < call_seconds(call) < 1


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 5, 1)
        self.squeeze, self.excite = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.a(x))
        gate = torch.relu(self.squeeze(F.adaptive_avg_pool2d(y, 1)))
        return self.b(y * torch.sigmoid(self.excite(gate)))


@pytest.fixture
def placed(monkeypatch: pytest.MonkeyPatch) -> tuple[Gated, QuantizationPlan, Tensor]:
    """A plan where only maps of one pixel are slower on integers."""

    def seconds(call: Call) -> float:
        pixel = call.shapes[0][2:] == (1, 1) and isinstance(call.types[0], QParams)
        return 2.0 if pixel else 1.0 if call.weight else 1e-3

    monkeypatch.setattr(module, "call_seconds", seconds)
    model, x = Gated().eval(), torch.randn(2, 3, 6, 6)
    return model, plan_quantization(model, [x], QuantizationConfig()), x


def test_a_slower_layer_computes_in_float_on_int8_weights(
    placed: tuple[Gated, QuantizationPlan, Tensor],
) -> None:
    model, plan, x = placed
    quantized = plan.apply(model)
    assert isinstance(quantized, Int8Model)
    rows = {row.name: row for row in quantized.table()}
    for name in ("squeeze", "excite"):
        assert rows[name].precision == "float"
        assert "times as fast here" in rows[name].reason
        assert quantized.tensors[f"{name}.weight"].dtype == torch.int8
    assert {rows[name].precision for name in ("a", "b")} == {"int8"}
    assert (quantized(x) - quantized.reference()(x)).abs().max() < 0.02
    want = model(x)
    assert (quantized(x) - want).abs().max() < 0.05 * want.abs().max()
    # No value of the gate is rounded, so its layers differ from float ones by their weights alone.
    made = {op.name: op for op in quantized.program.ops}
    assert {made[name].out for name in ("squeeze", "excite")} == {None}


def test_placement_is_part_of_the_plan(placed: tuple[Gated, QuantizationPlan, Tensor]) -> None:
    model, plan, x = placed
    again = QuantizationPlan.from_json(plan.to_json()).apply(model)
    assert isinstance(again, Int8Model)
    assert torch.equal(again(x), plan.apply(model)(x))
    loaded = Int8Model.from_program(again.program_json(), again.tensors)
    assert torch.equal(loaded(x), again(x))


def test_placement_all_measures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(call: Call) -> float:
        raise AssertionError

    monkeypatch.setattr(module, "call_seconds", fail)
    model, x = Gated().eval(), torch.randn(2, 3, 6, 6)
    for config in ("fast", QuantizationConfig(placement="all")):
        assert {row.precision for row in quantize(model, [x], config).table()} == {"int8"}


def test_timing_draws_nothing_from_the_random_state_of_torch() -> None:
    x = torch.randn(2, 3, 8, 8)
    model = Gated().eval()
    before = torch.get_rng_state()
    quantize(model, [x], QuantizationConfig(rounding="nearest"))
    prepare_qat(model, x)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_model_that_is_slower_throughout_is_an_error_that_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3)).eval()
    x = torch.randn(2, 3, 8, 8)
    monkeypatch.setattr(
        module, "call_seconds", lambda call: 10.0 if isinstance(call.types[0], QParams) else 1.0
    )
    with pytest.raises(UnsupportedError, match="slower on integers here"):
        quantize(net, [x], QuantizationConfig())
    with pytest.raises(UnsupportedError, match="slower on integers here"):
        prepare_qat(net, x)
    assert quantize(net, [x], QuantizationConfig(placement="all")).int8_share() == 1

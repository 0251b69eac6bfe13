"""All algorithms in order: the measured error only falls, and the result says what was kept."""

import warnings
from dataclasses import replace

import pytest
import torch
from torch import nn

from torchcompress.core.plan import plan_from_json, plan_to_json
from torchcompress.quantization import QuantizationConfig, QuantizationPlan, quantize
from torchcompress.quantization.config import RangeMethod
from torchcompress.quantization.ptq import improve
from torchcompress.quantization.quantize import plan_quantization
from torchcompress.quantization.sqnr import sqnr

EVERYTHING = QuantizationConfig(rounding="adaround", weight_steps=True, placement="all")


def small() -> nn.Module:
    layers = [nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, groups=4)]
    return nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.Linear(16 * 16, 10)).eval()


@pytest.mark.parametrize("config", [QuantizationConfig(placement="all"), EVERYTHING])
def test_the_error_falls_with_each_algorithm_that_is_kept(config: QuantizationConfig) -> None:
    data = [torch.randn(16, 3, 8, 8) for _ in range(4)]
    plan = plan_quantization(small(), data, config)
    trials = plan.parts[""].trials
    assert trials
    before = trials[0].before_db
    for trial in trials:
        assert trial.before_db == before
        assert trial.after_db is not None
        assert trial.before_db is not None
        assert trial.kept == (trial.after_db > trial.before_db)
        before = trial.after_db if trial.kept else before
        assert str(trial) in str(plan).splitlines()
    again = plan_from_json(plan_to_json(plan))
    assert isinstance(again, QuantizationPlan)
    assert again.parts[""].trials == trials


def test_on_new_data_it_is_closer_than_plain_calibration() -> None:
    layers: list[nn.Module] = []
    for width in (3, 16, 24, 24):
        layers += [nn.LazyConv2d(max(16, width), 3, bias=False), nn.LazyBatchNorm2d(), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(10))
    model(torch.randn(8, 3, 12, 12))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.2, 2.0)
    model.eval()
    data = [torch.randn(16, 3, 12, 12) for _ in range(4)]
    config = QuantizationConfig(rounding="nearest", placement="all")
    x = torch.randn(64, 3, 12, 12)
    learned, plain = quantize(model, data, config), quantize(model, data, "fast")
    with torch.no_grad():
        better, worse = sqnr(model(x), learned(x)), sqnr(model(x), plain(x))
    assert better is not None
    assert worse is not None
    assert better > worse + 1


def test_one_seed_gives_one_model() -> None:
    model, data = small(), [torch.randn(16, 3, 8, 8) for _ in range(4)]
    config = QuantizationConfig(placement="all")
    one, two = (quantize(model, data, config) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.buffers(), two.buffers(), strict=True))
    other = plan_quantization(model, data, replace(config, seed=1))
    assert set(other.parts) == {""}


def test_from_a_few_samples_nothing_is_learnt() -> None:
    plan = plan_quantization(small(), [torch.randn(3, 3, 8, 8)], QuantizationConfig())
    assert plan.parts[""].trials == ()


@pytest.mark.parametrize("ranges", ["minmax", "mse"])
def test_large_late_batches_count_where_there_is_room_for_few(
    ranges: RangeMethod, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last eight batches are ten times as large as those that fill the room."""
    monkeypatch.setattr(improve, "_MOST_BYTES", 8 * 8 * 3 * 144 * 4 - 1)
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 8, 3)).eval()
    model.state_dict()["0.weight"].mul_(torch.logspace(-2, 1, 16).view(-1, 1, 1, 1))
    model.state_dict()["0.bias"].zero_()
    data = [scale * torch.randn(8, 3, 12, 12) for scale in [1] * 8 + [10] * 8]
    plain = QuantizationConfig.preset("fast")
    config = replace(plain, ranges=ranges, equalization=True)
    made, fast = quantize(model, data, config), quantize(model, data, plain)
    with torch.no_grad():
        want = model(data[-1])
        better, worse = sqnr(want, made(data[-1])), sqnr(want, fast(data[-1]))
    assert better is not None
    assert worse is not None
    assert better > worse + 1


class Concat(nn.Module):
    """cat(a, 10 b)."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.c(torch.cat([self.a(x), 10 * self.b(x)], 1))


@pytest.mark.parametrize(
    ("model", "least"),
    [
        (Concat(), 35.0),
        (nn.Sequential(nn.ConvTranspose2d(4, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 1)), 35.0),
        (nn.Sequential(nn.ConvTranspose2d(4, 6, 3, groups=2), nn.Conv2d(6, 4, 1)), 35.0),
        (nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 3)), 38.0),
    ],
)
def test_cases(model: nn.Module, least: float) -> None:
    """The last one: inputs always in [10, 11], zero padding."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
            module.reset_parameters()  # Under the test's own seed.
    channels = next(m.in_channels for m in model.modules() if hasattr(m, "in_channels"))
    assert isinstance(channels, int)
    data = [torch.rand(16, channels, 6, 6) + 10 * (least > 36) for _ in range(4)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*concatenated branches", UserWarning)
        made = quantize(model.eval(), data, EVERYTHING)
    ratio = sqnr(model(data[0]), made(data[0]))
    assert ratio is not None
    assert ratio > least


def test_small_depthwise_channels_and_silent_ones_keep_their_bits() -> None:
    """Channels scaled from 1 down to 1e-5, and one of zeros with a bias of 5."""
    model = nn.Sequential(nn.Conv2d(9, 9, 3, padding=1, groups=9)).eval()
    scales = torch.logspace(0, -5, 9)
    scales[4] = 0
    state = model.state_dict()
    state["0.weight"].mul_(scales.view(-1, 1, 1, 1))
    state["0.bias"].mul_(scales)
    state["0.bias"][4] = 5
    data = [torch.randn(16, 9, 6, 6) for _ in range(4)]
    for config in (QuantizationConfig(placement="all"), EVERYTHING):
        made = quantize(model, data, config)
        y, got = model(data[0]), made(data[0])
        assert (got[:, 4] == 5).all()
        assert bool(torch.isfinite(got).all())
        for channel in {*range(9)} - {4}:
            ratio = sqnr(y[:, channel], got[:, channel])
            assert ratio is not None
            assert ratio > 30

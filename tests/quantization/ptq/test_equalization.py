"""Factors that move between layers: the float network stays, the int8 one gets closer to it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torchcompress.quantization.calibrate import Batches
from torchcompress.quantization.ptq.channel_groups import channel_groups
from torchcompress.quantization.ptq.equalization import equalize
from torchcompress.quantization.ptq.samples import Samples, output_noise
from torchcompress.quantization.quantize_part import Draft

Prepare = Callable[..., Any]


def equalized(
    draft: Draft,
    samples: Samples,
    data: list[Tensor],
    *,
    strength: float = 0.5,
    norms: bool = False,
    histogram: bool = False,
) -> Draft:
    batches = Batches(data, None, torch.device("cpu"))
    return equalize(
        draft, samples, batches=batches, strength=strength, norms=norms, histogram=histogram
    )


class Residual(nn.Module):
    """Layers around a residual sum, through pooling, to a classifier; channels of uneven size."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.c, self.last = nn.Conv2d(8, 8, 1), nn.Linear(8, 5)
        with torch.no_grad():
            self.a.weight.mul_(torch.logspace(-2, 1, 8).view(-1, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(torch.relu(self.a(x)), 2)
        x = torch.relu(self.c(torch.relu(self.b(x))) + x)
        return self.last(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Gated(nn.Module):
    """Squeeze and excite."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.fc, self.b = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 1), nn.Conv2d(6, 4, 1)
        with torch.no_grad():
            self.a.weight.mul_(torch.logspace(-2, 1, 6).view(-1, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.a(x))
        return self.b(x * torch.sigmoid(self.fc(F.adaptive_avg_pool2d(x, 1))))


class Normed(nn.Module):
    """A layer norm that two linear layers read, one channel of it very large."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.a, self.b = nn.LayerNorm(16), nn.Linear(16, 8), nn.Linear(16, 8)
        with torch.no_grad():
            self.norm.weight[3] = 60.0

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        return self.a(x) * torch.sigmoid(self.b(x))


CASES = [
    (Residual, (64, 3, 8, 8), False),
    (Gated, (64, 3, 8, 8), False),
    (Normed, (64, 5, 16), True),
]


@pytest.mark.parametrize(("make", "shape", "norms"), CASES)
def test_the_float_network_stays_and_the_int8_one_gets_closer(
    make: Callable[[], nn.Module], shape: tuple[int, ...], norms: bool, prepare: Prepare
) -> None:
    model, x = make(), torch.randn(shape)
    data = list(x.split(16))
    draft, samples = prepare(model, data)
    made = equalized(draft, samples, data, norms=norms)
    assert made.adjustments
    module = made.float_module()
    torch.testing.assert_close(module(x), model(x), atol=1e-4, rtol=1e-4)
    assert output_noise(made, samples) < 0.8 * output_noise(draft, samples)


def test_full_strength_makes_channels_equally_large(prepare: Prepare) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    state = model.state_dict()
    state["0.weight"].mul_(torch.tensor([0.01, 1.0, 5.0, 0.0]).view(-1, 1, 1, 1))
    state["0.bias"].zero_()
    data = [torch.randn(16, 3, 4, 4) for _ in range(4)]
    draft, samples = prepare(model, data)
    made = equalized(draft, samples, data, strength=1.0)
    tensors = made.float_module().tensors
    fit = torch.cat([call[0] for call in samples.fit])
    y = torch.relu(F.conv2d(fit, tensors["0.weight"], tensors["0.bias"]))
    peaks = y.amax((0, 2, 3))
    assert peaks[3] == 0
    torch.testing.assert_close(peaks[:3], peaks[:1].expand(3), rtol=1e-3, atol=0)


@pytest.mark.parametrize("histogram", [False, True])
def test_new_ranges_hold_all_of_the_data_however_few_samples_were_kept(
    histogram: bool, prepare: Prepare
) -> None:
    """Few samples are small, the rest are large; what no factor moves keeps its grid."""
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 1))
    model.state_dict()["0.weight"].mul_(torch.logspace(-2, 1, 8).view(-1, 1, 1, 1))
    data = [scale * torch.randn(8, 3, 6, 6) for scale in (1, 1, 10, 10)]
    draft, _ = prepare(model, data)
    batches = Batches(data[:2], None, torch.device("cpu"))
    few = Samples.of(draft.float_module(), batches, 2**20)
    made = equalized(draft, few, data, histogram=histogram)
    (_, value), inner = made.program.inputs[0], made.program.ops[0].output
    assert made.grids[value] == draft.grids[value]
    tensors = made.float_module().tensors
    peak = F.conv2d(torch.cat(data), tensors["0.weight"], tensors["0.bias"]).relu().max().item()
    assert made.extents[inner][1] == pytest.approx(peak, rel=1e-5)
    covered = 255 * made.grids[inner].scale
    assert covered > 0.5 * peak if histogram else covered == pytest.approx(peak, rel=1e-5)


class Blocked(nn.Module):
    """What no factor may pass: outputs, hardswish, a sum with the input, a layer called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(4, 4, 1) for _ in range(3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.b(F.hardswish(self.a(x)))
        z = self.c(torch.relu(self.c(torch.relu(y + x))))
        return y, z


def test_what_no_factor_may_pass(prepare: Prepare) -> None:
    data = [torch.randn(4, 4, 5, 5) for _ in range(4)]
    draft, samples = prepare(Blocked(), data)
    assert channel_groups(draft.program, draft.sources) == []
    assert equalized(draft, samples, data) is draft


def test_a_flatten_of_more_than_a_pixel_is_no_group(prepare: Prepare) -> None:
    layers = [nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 9, 2)]
    draft, _ = prepare(nn.Sequential(*layers), [torch.randn(4, 3, 3, 3)])
    assert channel_groups(draft.program, draft.sources) == []

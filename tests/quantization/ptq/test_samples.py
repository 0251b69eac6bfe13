"""What reaches a program, and the error measured on it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torchcompress.quantization.calibrate import Batches
from torchcompress.quantization.ptq.samples import Samples, output_noise

Prepare = Callable[..., Any]


class Flipped(nn.Module):
    """Mixes the samples of a batch."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flip(0)


def test_every_fourth_call_is_held_out(prepare: Prepare) -> None:
    data = [torch.full((2, 3, 4, 4), float(n)) for n in range(6)]
    _, samples = prepare(nn.Conv2d(3, 2, 1), data)
    assert [x[0].max().item() for x in samples.held] == [0, 4]
    assert [x[0].max().item() for x in samples.fit] == [1, 2, 3, 5]
    assert samples.count == 12


def test_a_single_batch_is_divided_where_samples_are_alone(prepare: Prepare) -> None:
    x = torch.randn(8, 3, 4, 4)
    draft, samples = prepare(nn.Conv2d(3, 2, 1), [x])
    assert torch.equal(torch.cat([call[0] for call in samples.held + samples.fit]), x)
    assert (len(samples.held), len(samples.fit), samples.count) == (1, 3, 8)
    _, whole = prepare(nn.Sequential(nn.Conv2d(3, 2, 1), Flipped()), [x])
    assert whole.count == 8
    assert torch.equal(whole.held[0][0], x)
    assert torch.equal(whole.fit[0][0], x)
    few = Samples.of(draft.float_module(), Batches([x[:3]], None, torch.device("cpu")), 2**20)
    assert len(few.fit[0][0]) == 3


def test_no_more_is_kept_than_there_is_room_for(prepare: Prepare) -> None:
    data = [torch.randn(2, 3, 4, 4) for _ in range(20)]
    draft, _ = prepare(nn.Conv2d(3, 2, 1), data)
    batches = Batches(data, None, torch.device("cpu"))
    few = Samples.of(draft.float_module(), batches, 4 * data[0].nbytes)
    assert few.count == 2 * 4


class Sum(nn.Module):
    """Two inputs of several sizes, and a factor without a dimension before them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, factor: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return self.conv(x * factor) + self.conv(y)


def test_calls_of_several_inputs_are_kept_whole_wherever_the_room_ends(prepare: Prepare) -> None:
    numbers = [float(n) for n in range(1, 9)]
    shapes = ((), (2, 3, 4, 4), (2, 3, 1, 1))
    data = [(tuple(torch.full(shape, n) for shape in shapes),) for n in numbers]
    draft, samples = prepare(Sum(), data)
    assert samples.count == 16
    batches, size = Batches(data, None, torch.device("cpu")), 4 + 2 * 3 * 17 * 4
    for most in range(size, 4 * size, 3):
        few = Samples.of(draft.float_module(), batches, most)
        for factor, x, y in few.fit + few.held:
            assert (x == factor).all()
            assert (y == factor).all()
        assert size * few.count // 2 - size < most <= size * few.count // 2


@pytest.mark.parametrize("forms", [1, 2, 3, 4, 5, 8])
def test_kept_calls_are_spread_over_the_data_and_over_forms_in_turn(
    forms: int, prepare: Prepare
) -> None:
    """Calls are numbered; calls of several forms alternate, as a head does on several maps."""
    data = [torch.full((1, 3, 4, 4), float(n)) for n in range(240)]
    draft, _ = prepare(nn.Conv2d(3, 2, 1), data[:4])
    batches = Batches(data, None, torch.device("cpu"))
    few = Samples.of(draft.float_module(), batches, 40 * data[0].nbytes)
    numbers = sorted(int(x[0].max().item()) for x in few.fit + few.held)
    assert len(numbers) == 40
    gaps = [b - a for a, b in zip([-1, *numbers], [*numbers, 240], strict=True)]
    assert max(gaps) <= 2 * 240 / 40
    for form in range(forms):
        assert sum(n % forms == form for n in numbers) >= 40 // forms // 2


def test_the_error_is_relative_to_each_output(prepare: Prepare) -> None:
    """Scaling the network scales its noise, and a float draft has none."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.a(x), 1000 * self.b(x)

    model = Two()
    draft, samples = prepare(model, [torch.randn(4, 3, 6, 6) for _ in range(4)])
    noise = output_noise(draft, samples)
    built = draft.int8_model()[0]
    wanted = []
    for got, want in zip(built(samples.held[0][0]), model(samples.held[0][0]), strict=True):
        gap = (got.double() - want.double()).square().sum()
        wanted.append((gap / want.double().square().sum()).item())
    assert noise == pytest.approx(sum(wanted) / 2, rel=1e-6)
    nothing = draft.kept_float(dict.fromkeys(draft.int8, "for a test"))
    assert output_noise(nothing, samples) < 1e-10
    assert output_noise(replace(draft), samples) == noise

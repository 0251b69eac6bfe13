from collections.abc import Callable

import pytest
import torch
from torch import nn

from torchcompress.metrics.latency import (
    LatencySetting,
    Timings,
    measure_latency,
    time_in_turns,
)


class FakeTime:
    """A clock that stands still unless a function that is timed advances it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def clock(self) -> float:
        return self.now

    def run(self, name: str, seconds: Callable[[int], float]) -> Callable[[], None]:
        def call() -> None:
            self.now += seconds(self.calls.count(name))
            self.calls.append(name)

        return call


def test_the_models_run_in_turns_after_a_warm_up() -> None:
    fake = FakeTime()
    runs = {"a": fake.run("a", lambda _: 0.25), "b": fake.run("b", lambda _: 0.125)}
    timings = time_in_turns(runs, rounds=3, block_seconds=0.75, clock=fake.clock)
    warm_up = ["a"] * 4 + ["b"] * 4
    assert fake.calls == warm_up + (["a"] * 3 + ["b"] * 6) * 3
    assert [len(block) for block in timings.seconds["b"]] == [6, 6, 6]
    assert timings.milliseconds("a") == pytest.approx(250)
    assert timings.speedup("a", "b").value == pytest.approx(2)


def test_a_slow_warm_up_does_not_count() -> None:
    fake = FakeTime()
    run = fake.run("a", lambda n: 1.0 if n < 4 else 0.01)
    assert time_in_turns({"a": run}, rounds=2, clock=fake.clock).milliseconds("a") == (
        pytest.approx(10)
    )


def test_the_lowest_decile_ignores_what_else_the_machine_does() -> None:
    quiet = [0.001] * 5 + [0.002] * 5
    disturbed = [0.1] * 8 + [0.001, 0.001]
    timings = Timings({"a": [quiet, disturbed], "b": [[0.0005] * 10] * 2})
    assert timings.milliseconds("a") == pytest.approx(1)
    assert timings.speedup("a", "b").value == pytest.approx(2)


def test_the_interval_is_that_of_the_ratio_over_the_rounds() -> None:
    a = [[0.001 * n] * 3 for n in range(1, 22)]
    ratio = Timings({"a": a, "b": [[0.001] * 3] * 21}).speedup("a", "b")
    assert ratio.low == pytest.approx(2)
    assert ratio.high == pytest.approx(20)
    shared_noise = [[0.001 * n] * 3 for n in range(1, 22)]
    steady = Timings({"a": a, "b": shared_noise}).speedup("a", "b")
    assert (steady.low, steady.value, steady.high) == pytest.approx((1, 1, 1))


class Probe(nn.Module):
    """Notes how it is called; the note survives a copy."""

    def __init__(self, seen: list[tuple[int, bool, bool]]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.seen = seen

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        layout = torch.channels_last
        dense = x.is_contiguous(memory_format=layout)
        weight = self.conv.weight.is_contiguous(memory_format=layout)
        self.seen.append((torch.get_num_threads(), dense and weight, self.training))
        return self.conv(x)

    def __deepcopy__(self, memo: dict[int, object]) -> "Probe":
        other = Probe(self.seen)
        other.load_state_dict(self.state_dict())
        return other


def test_models_run_channels_last_in_eval_mode_and_are_left_as_they_were() -> None:
    seen: list[tuple[int, bool, bool]] = []
    model = Probe(seen).train()
    threads = torch.get_num_threads()
    measure_latency({"a": (model, torch.randn(2, 3, 8, 8))}, threads=threads + 1, rounds=1)
    assert set(seen) == {(threads + 1, True, False)}
    assert torch.get_num_threads() == threads
    assert model.training
    assert model.conv.weight.is_contiguous()


def test_threads_are_restored_after_a_failure() -> None:
    threads = torch.get_num_threads()
    with pytest.raises(RuntimeError):
        measure_latency({"a": (nn.Linear(3, 3), torch.zeros(1, 4))}, threads=threads + 1)
    assert torch.get_num_threads() == threads


def test_a_setting_prints_as_its_key_and_shapes_the_example() -> None:
    setting = LatencySetting(threads=2, batch=3, image_size=8)
    assert str(setting) == "threads=2,batch=3,image_size=8"
    assert str(LatencySetting()) == "threads=1,batch=1"
    images = torch.randn(2, 3, 4, 4)
    example = setting.example((images, {"mask": torch.ones(2, 5)}))
    assert isinstance(example, tuple)
    assert example[0].shape == (3, 3, 8, 8)
    assert example[1]["mask"].shape == (3, 5)
    same = LatencySetting(batch=2).example(images)
    assert isinstance(same, torch.Tensor)
    assert torch.equal(same, images[:1].repeat(2, 1, 1, 1))

import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from torchcompress.errors import TraceError
from torchcompress.metrics import LatencyTable, LayerTimes
from torchcompress.metrics.latency_table import Timed, float_layer, layout_of


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(32, 32, 3, padding=1, groups=32)
        self.twice = nn.Conv2d(32, 32, 1, bias=False)
        self.up = nn.ConvTranspose2d(32, 16, 2, stride=2)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.twice(self.twice(self.depthwise(self.stem(x))))
        return self.head(self.up(x).mean((2, 3)))


X = torch.randn(2, 3, 12, 12)


def by_area(layer: Timed, x: Tensor, inputs: int, outputs: int) -> Callable[[], object]:
    """A layer that takes a millisecond for 1,000 pairs of channels."""
    seconds = 1e-6 * inputs * outputs
    return lambda: time.sleep(seconds)


def test_every_call_of_a_layer_is_in_the_table_over_its_widths() -> None:
    model = Net()
    table = LatencyTable.measure(model, X)
    widths = {path: [(t.inputs, t.outputs) for t in calls] for path, calls in table.layers.items()}
    assert widths == {
        "stem": [((3,), (8, 16, 24, 32))],
        "depthwise": [((8, 16, 24, 32), (32,))],
        "twice": [((8, 16, 24, 32), (8, 16, 24, 32))] * 2,
        "up": [((8, 16, 24, 32), (8, 16))],
        "head": [((8, 16), (8, 10))],
    }
    assert table.model_ms > 0
    assert all(min(map(min, t.ms)) > 0 for calls in table.layers.values() for t in calls)
    assert (table.threads, table.layout, table.precision) == (1, "contiguous", "float32")
    assert LatencyTable.from_json(table.to_json()) == table


def test_a_layer_is_built_as_it_is_but_for_its_widths() -> None:
    model, x = Net(), torch.randn(2, 32, 6, 6).contiguous(memory_format=torch.channels_last)
    made = float_layer(model.depthwise, x, 8, 8)()
    assert isinstance(made, Tensor)
    assert made.shape == (2, 8, 6, 6)
    assert made.is_contiguous(memory_format=torch.channels_last)
    up = float_layer(model.up, x, 8, 4)()
    assert isinstance(up, Tensor)
    assert up.shape == (2, 4, 12, 12)


def test_what_is_built_is_what_is_timed() -> None:
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64)).eval()
    table = LatencyTable.measure(model, torch.randn(2, 64), build=by_area, precision="slow")
    first, second = (table.layers[path][0] for path in "01")
    assert first is second
    assert first.at(64, 64) >= 4.096
    assert first.at(64, 64) > 1.5 * first.at(64, 32) > 2 * first.at(32, 16)
    assert table.precision == "slow"


def test_between_measured_widths_times_are_interpolated() -> None:
    times = LayerTimes((2, 4), (10, 20), ((1.0, 3.0), (5.0, 9.0)))
    assert times.at(2, 10) == 1
    assert times.at(2, 15) == pytest.approx(2)
    assert times.at(3, 10) == pytest.approx(3)
    assert times.at(3, 15) == pytest.approx((2 + 7) / 2)
    assert times.at(1, 5) == 1
    assert times.at(9, 99) == 9


def test_the_layout_is_that_of_the_weights() -> None:
    model = Net()
    assert layout_of(model) == "contiguous"
    last = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    assert layout_of(last) == "channels_last"
    assert LatencyTable.measure(last, X).layout == "channels_last"
    assert layout_of(nn.Linear(2, 2)) == "contiguous"


def test_the_model_and_the_threads_are_left_as_they_were() -> None:
    model, threads = Net().train(), torch.get_num_threads()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    LatencyTable.measure(model, X, build=by_area)
    assert torch.get_num_threads() == threads
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(not module._forward_pre_hooks for module in model.modules())


def test_an_input_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(TraceError, match="fails on the example input"):
        LatencyTable.measure(Net(), torch.randn(2, 4, 12, 12))

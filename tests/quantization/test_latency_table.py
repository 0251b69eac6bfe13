import itertools

import pytest
import torch
from torch import Tensor, nn

from torchcompress import Target, plan_channels
from torchcompress.core.plan import plan_from_json, plan_to_json
from torchcompress.quantization import int8_latency_table
from torchcompress.quantization.int8 import kernels
from torchcompress.quantization.latency_table import int8_layer


def chain(*widths: int) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [
        (nn.Conv2d(before, after, 3, padding=1), nn.ReLU())
        for before, after in itertools.pairwise(widths)
    ]
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 5))
    return nn.Sequential(*itertools.chain(*layers), *head).eval()


X = torch.randn(2, 32, 6, 6)


@pytest.mark.parametrize(
    ("layer", "inputs", "outputs", "shape"),
    [
        (nn.Conv2d(32, 64, 3, stride=2, padding=1), 16, 24, (2, 24, 3, 3)),
        (nn.Conv2d(32, 32, 3, padding=1, groups=32), 16, 16, (2, 16, 6, 6)),
        (nn.Linear(6, 64), 16, 24, (2, 32, 6, 24)),
    ],
)
def test_a_layer_of_other_widths_runs_on_integers(
    layer: nn.Conv2d | nn.Linear, inputs: int, outputs: int, shape: tuple[int, ...]
) -> None:
    made = int8_layer(layer, X, inputs, outputs)()
    assert isinstance(made, Tensor)
    assert made.dtype == torch.uint8
    assert made.shape == shape


def test_what_has_no_kernel_runs_in_float() -> None:
    made = int8_layer(nn.ConvTranspose2d(32, 16, 2, stride=2), X, 16, 8)()
    assert isinstance(made, Tensor)
    assert made.dtype == torch.float32
    assert made.shape == (2, 8, 12, 12)


def test_a_plan_follows_the_int8_times(monkeypatch: pytest.MonkeyPatch) -> None:
    bound: list[str] = []
    bind = kernels.bind

    def counting(*args: object) -> object:
        bound.append("x")
        return bind(*args)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(kernels, "bind", counting)
    model, x = chain(3, 64, 64), torch.randn(1, 3, 16, 16)
    table = int8_latency_table(model, x)
    assert bound
    assert (table.precision, table.layout) == ("int8", "channels_last")
    assert table.layers.keys() == {"0", "2", "6"}
    plan = plan_channels(model, x, Target(latency=0.85), latency_table=table)
    assert plan.latency is not None
    assert plan.latency.predicted_ms <= 0.85 * table.model_ms
    assert plan.latency.measured_ms is None
    assert "int8, threads=1, channels_last, by the table" in str(plan)
    assert plan_from_json(plan_to_json(plan)) == plan
    assert not next(model.parameters()).is_contiguous(memory_format=torch.channels_last)

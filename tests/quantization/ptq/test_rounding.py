"""Learned rounding: never worse than plain rounding, and the best of all where that is known."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torchcompress.quantization.ptq.rounding import METHODS, learn_rounding, search_steps
from torchcompress.quantization.ptq.samples import output_noise
from torchcompress.reconstruction.gram import output_error

Prepare = Callable[..., Any]


def correlated(count: int, columns: int) -> Tensor:
    return torch.randn(count, columns) @ torch.randn(columns, columns) + 1


@pytest.mark.parametrize("method", METHODS)
def test_no_row_is_worse_than_plain_rounding_and_most_are_better(method: str) -> None:
    x = correlated(400, 32).double()
    gram = (x.T @ x)[None] / len(x)
    weight = torch.randn(1, 20, 32).double()
    weight[0, :, 3] = 0
    scale = weight.abs().amax(2) / 7
    made = METHODS[method](weight, gram, scale)
    plain = (weight / scale[:, :, None]).round()
    error = output_error(made * scale[:, :, None], weight, gram)
    least = output_error(plain * scale[:, :, None], weight, gram)
    assert (error <= least).all()
    assert error.sum() < 0.6 * least.sum()
    assert made.dtype == torch.int8
    assert (made[0, :, 3] == 0).all()
    assert torch.equal(made, METHODS[method](weight, gram, scale))


class Net(nn.Module):
    """A dense, a depthwise and a transposed convolution, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(4, 12, 3), nn.Conv2d(12, 12, 3, groups=12)
        self.c, self.d = nn.ConvTranspose2d(12, 6, 2), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.c(self.b(torch.relu(self.a(x))))
        return self.d(x.mean((2, 3)))


@pytest.mark.parametrize("method", METHODS)
def test_each_layer_of_a_network(method: str, prepare: Prepare) -> None:
    model = Net()
    with torch.no_grad():
        model.a.weight[:, 1] = 0
    data = [torch.randn(8, 4, 9, 9).abs() for _ in range(4)]
    draft, samples = prepare(model, data)
    made = learn_rounding(draft, samples, method=method, correct_bias=True, seed=0)
    assert {"a", "b", "d"} <= made.integers.keys()
    tensors, plain = made.int8_model()[0].tensors, draft.int8_model()[0].tensors
    for name, learned in made.integers.items():
        assert torch.equal(tensors[f"{name}.weight"], learned)
        assert torch.equal(tensors[f"{name}.scale"], plain[f"{name}.scale"])
        assert (learned[plain[f"{name}.weight"] == 0].abs() <= 1).all()
    assert (made.integers["a"][:, 1] == 0).all()
    assert output_noise(made, samples) < output_noise(draft, samples)
    again = learn_rounding(draft, samples, method=method, correct_bias=True, seed=0)
    assert all(torch.equal(again.integers[name], made.integers[name]) for name in made.integers)
    assert again.adjustments == made.adjustments


def test_a_row_that_could_overflow_keeps_plain_rounding(prepare: Prepare) -> None:
    """The bias leaves the accumulator hardly any room."""
    model = nn.Sequential(nn.Conv2d(3, 2, 1))
    data = [1e-4 * torch.rand(16, 3, 4, 4) for _ in range(2)]
    state = {"0.weight": torch.randn(2, 3, 1, 1) * 1e-3, "0.bias": torch.full((2,), 1e3)}
    model.load_state_dict(state)
    draft, samples = prepare(model, data)
    made = learn_rounding(draft, samples, method="gptq", correct_bias=False, seed=0)
    built = made.int8_model()[0]
    grid = next(op.out for op in built.program.ops if op.kind == "quantize")
    assert grid is not None
    weight, scale, bias = (built.tensors[f"0.{n}"].double() for n in ("weight", "scale", "bias"))
    sums = 255 * weight.flatten(1).abs().sum(1) + bias.abs() / (grid.scale * scale)
    assert (sums < 2**31).all()
    x = data[0]
    assert (built(x) - model(x)).abs().max() < 1e-3


def test_steps_shrink_where_one_weight_stands_out_on_a_silent_input(prepare: Prepare) -> None:
    model = nn.Sequential(nn.Linear(16, 4))
    weight = torch.randn(4, 16) * 0.1
    weight[:, 0] = 0.5
    model.load_state_dict({"0.weight": weight, "0.bias": torch.zeros(4)})
    data = [torch.randn(32, 16) for _ in range(4)]
    for x in data:
        x[:, 0] *= 1e-4
    draft, samples = prepare(model, data)
    made = search_steps(draft, samples, seed=0)
    steps = made.adjustments["0"].steps
    assert steps is not None
    assert max(steps) < 0.9
    assert output_noise(made, samples) < output_noise(draft, samples)

"""Means of channels after bias correction."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from torchcompress.quantization.ptq.bias_correction import correct_biases

Prepare = Callable[..., Any]


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, padding=1)), (16, 4, 8, 8)),
        (nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.ReLU(), nn.Conv2d(6, 5, 1)), (16, 4, 8, 8)),
        (nn.Sequential(nn.Linear(8, 6)), (32, 8)),
        (nn.Sequential(nn.Linear(8, 6)), (16, 5, 8)),
    ],
)
def test_the_mean_of_each_channel_is_floats(
    prepare: Prepare, model: nn.Module, shape: tuple[int, ...]
) -> None:
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
            module.reset_parameters()  # Under the test's own seed.
    data = [torch.randn(shape).abs() for _ in range(4)]
    draft, samples = prepare(model, data)
    fixed = correct_biases(draft, samples)

    def gap(made: Any) -> float:
        int8 = made.int8_model()[0]
        fit = torch.cat([call[0] for call in samples.fit])
        difference = (int8(fit) - model(fit)).movedim(-1 if fit.dim() < 4 else 1, 0)
        return difference.flatten(1).mean(1).abs().max().item()

    assert gap(fixed) < 1e-3 * gap(draft) + 1e-5

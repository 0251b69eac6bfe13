from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from torchcompress.quantization import Int8Model, quantize

Agree = Callable[[Int8Model, Tensor], None]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def lively() -> Callable[[nn.Module], nn.Module]:
    """Gives every batch norm statistics and gains that a fold could get wrong."""

    def randomize(model: nn.Module) -> nn.Module:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                for tensor in (module.running_mean, module.bias):
                    assert tensor is not None
                    nn.init.normal_(tensor, std=0.2)
                for tensor in (module.running_var, module.weight):
                    assert tensor is not None
                    nn.init.uniform_(tensor, 0.5, 1.5)
        return model.eval()

    return randomize


@pytest.fixture
def decibels() -> Callable[[nn.Module, Tensor], float]:
    """Quantizes a model on one batch and returns the SQNR of its output on that batch."""

    def measure(model: nn.Module, x: Tensor) -> float:
        from torchcompress.quantization.sqnr import sqnr

        model.eval()
        with torch.no_grad():
            ratio = sqnr(model(x), quantize(model, [x])(x))
        return float("inf") if ratio is None else ratio

    return measure

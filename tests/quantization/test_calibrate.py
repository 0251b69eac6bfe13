from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torchcompress.core.errors import CalibrationError
from torchcompress.quantization import quantize


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1)).eval()


def test_an_empty_loader() -> None:
    with pytest.raises(CalibrationError, match="the loader yielded nothing"):
        quantize(net(), [])


def test_a_batch_with_nan_is_named() -> None:
    good = torch.randn(2, 3, 4, 4)
    with pytest.raises(CalibrationError, match="calibration batch 2"):
        quantize(net(), [good, good, good * float("nan")])


def test_an_overflow_inside_names_layer_and_batch() -> None:
    class Overflows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.first(x)
            return self.second(y * y)

    good = torch.randn(2, 3, 4, 4)
    with pytest.raises(
        CalibrationError, match="mul, calibration batch 1: the output is not finite"
    ):
        quantize(Overflows().eval(), [good, good * 1e30])


def test_a_batch_of_the_wrong_shape_is_named() -> None:
    with pytest.raises(CalibrationError, match="calibration batch 1: the model cannot run on it"):
        quantize(net(), [torch.randn(2, 3, 4, 4), torch.randn(2, 5, 4, 4)])


def test_a_model_that_forward_never_calls() -> None:
    def forward(model: nn.Module, batch: Any) -> Any:
        return None

    with pytest.raises(CalibrationError, match="never ran"):
        quantize(net(), [torch.randn(2, 3, 4, 4)], forward=forward)


def test_forward_reads_an_unusual_batch() -> None:
    x = torch.randn(2, 3, 4, 4)

    def forward(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return model(batch["image"] * 2)

    by_forward = quantize(net_of(), [{"image": x / 2}], forward=forward)
    assert torch.equal(by_forward(x), quantize(net_of(), [x])(x))


def net_of() -> nn.Module:
    torch.manual_seed(3)
    return net()


def test_a_generator_serves_both_passes() -> None:
    x = torch.randn(4, 3, 4, 4)
    batches = [(x, torch.zeros(4)), (x * 2, torch.zeros(4))]
    model = net()
    assert torch.equal(quantize(model, iter(batches))(x), quantize(model, batches)(x))

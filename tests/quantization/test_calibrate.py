from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torchcompress.core.errors import CalibrationError, UnsupportedError
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


def test_an_overflow_in_the_first_batch_is_no_fault_of_the_trace() -> None:
    bright = net()
    nn.init.constant_(bright.get_parameter("0.weight"), 2.0)
    with pytest.raises(CalibrationError, match="0, calibration batch 0: the output is not finite"):
        quantize(bright, [torch.full((2, 3, 4, 4), 3e38)])


class Mixed(nn.Module):
    """Folds pairs of samples into one: dimension 0 is not the batch throughout."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 1), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).view(5, -1, 8))


def test_the_noise_is_measured_without_a_guess_at_the_batch_dimension() -> None:
    table = quantize(Mixed().eval(), [torch.randn(10, 3, 8, 8)]).table()
    assert all(row.sqnr_db is not None and row.sqnr_db > 25 for row in table)


@pytest.mark.parametrize(
    ("model", "calibration", "match"),
    [
        (net(), [torch.zeros(0, 3, 8, 8)], "batch 0: it holds no samples"),
        (net(), None, "NoneType does not yield batches"),
    ],
)
def test_unusable_data_is_named(model: nn.Module, calibration: Any, match: str) -> None:
    with pytest.raises(CalibrationError, match=match):
        quantize(model.eval(), calibration)


@pytest.mark.parametrize(
    ("model", "x", "match"),
    [
        (net(), torch.randn(3, 8, 8), r"0 takes \[batch, channels, height, width\]"),
        (nn.Sequential(nn.Linear(8, 2)), torch.randn(8), "takes a batch of vectors"),
    ],
)
def test_samples_without_a_batch_dimension(model: nn.Module, x: Tensor, match: str) -> None:
    with pytest.raises(UnsupportedError, match=f"nothing in this model .*{match}"):
        quantize(model.eval(), [x])


def test_a_batch_of_which_the_model_gets_no_sample_is_named() -> None:
    batches = [{"images": torch.zeros(0, 3, 8, 8), "weight": torch.ones(1)}]
    with pytest.raises(
        CalibrationError, match="0, calibration batch 0: calibration never ran this"
    ):
        quantize(net().eval(), batches, forward=lambda model, batch: model(batch["images"]))


def test_a_model_that_writes_into_its_input() -> None:
    class Doubles(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x.mul_(2))

    for model in (nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(3, 4, 1)), Doubles()):
        x = torch.randn(2, 3, 4, 4)
        kept = x.clone()
        quantized = quantize(model.eval(), [x])
        quantized(x)
        assert torch.equal(x, kept)


def test_the_loader_is_read_once_for_the_first_batch_and_once_for_each_pass() -> None:
    class Counted:
        starts = 0

        def __iter__(self) -> Iterator[Tensor]:
            self.starts += 1
            yield torch.ones(2, 3, 4, 4)

    loader = Counted()
    quantize(net(), loader, "fast")
    assert loader.starts == 2
    quantize(net(), loader)
    # Ranges, histograms, and what the algorithms learn from.
    assert loader.starts == 2 + 4

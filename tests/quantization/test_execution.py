"""Whole networks: which operations run on integers, and how near they come to the float model."""

import pytest
import torch
from torch import Tensor, nn

from torchcompress.quantization import Int8Model, quantize
from torchcompress.quantization.sqnr import sqnr


class Pooled(nn.Module):
    """Pools of few channels and of padded windows, and a squeezed map."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(12, 12, 1)
        self.squeeze = nn.Conv2d(12, 12, 1)
        self.max = nn.MaxPool2d(3, 2, 1)
        self.mean = nn.AvgPool2d(3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.mean(torch.relu(self.a(self.max(torch.relu(self.a(x)))[:, :3])))
        gate = torch.sigmoid(self.squeeze(nn.functional.adaptive_avg_pool2d(y, 1)))
        return self.b(y * gate)


NETWORKS = {
    "mlp": (
        nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 8)),
        torch.randn(2, 5, 16),
        ["quantize", "linear", "linear", "linear"],
    ),
    "lines": (
        nn.Sequential(
            nn.Conv1d(4, 8, 3, padding=1),
            nn.ReLU6(),
            nn.Conv1d(8, 8, 3, groups=8),
            nn.Conv1d(8, 4, 1),
        ),
        torch.randn(2, 4, 30),
        ["quantize", "conv1d", "conv1d", "conv1d"],
    ),
    "volumes": (
        nn.Sequential(
            *(nn.Conv3d(3, 8, (1, 3, 3), 2), nn.BatchNorm3d(8), nn.ReLU()),
            *(nn.Conv3d(8, 8, 3, padding=1), nn.SiLU(), nn.Conv3d(8, 4, 1)),
        ),
        torch.randn(2, 3, 4, 11, 11),
        ["quantize", "conv3d", "conv3d", "conv3d"],
    ),
    "pools": (
        Pooled(),
        torch.randn(2, 3, 16, 16),
        [
            *["quantize", "conv2d", "max_pool2d", "slice", "conv2d", "avg_pool2d"],
            *["global_avg_pool", "conv2d", "activation", "dequantize", "mul", "conv2d"],
        ],
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_whole_networks(name: str) -> None:
    torch.manual_seed(0)
    model, x, kinds = NETWORKS[name]
    model.eval()
    quantized = quantize(model, [x])
    assert isinstance(quantized, Int8Model)
    assert [op.kind for op in quantized.program.ops] == kinds
    assert {row.precision for row in quantized.table()} == {"int8"}
    with torch.no_grad():
        want, got = model(x), quantized(x)
    ratio = sqnr(want, got)
    assert ratio is not None
    assert ratio > 25
    assert (got - quantized.reference()(x)).abs().max() < 0.02 * want.abs().max()
    more = torch.cat([x, x.flip(0), x])
    assert torch.equal(quantized(more)[:2], got)

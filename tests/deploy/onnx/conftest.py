import importlib.util

import pytest
import torch
from torch import Tensor, nn

from torchcompress.deploy.onnx import OnnxExport, export_onnx
from torchcompress.deploy.onnx.presets import PRESETS
from torchcompress.quantization import Int8Model, QuantizationConfig, quantize

MISSING = [n for n in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(n) is None]
collect_ignore_glob = ["test_*.py"] if MISSING else []


class Kinds(nn.Module):
    """Each way in which an int8 layer ends: alone, in a sum, in each activation, in float."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.depthwise = nn.Sequential(
            nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.BatchNorm2d(16), nn.Hardswish()
        )
        self.squeeze = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 8, 1), nn.ReLU(), nn.Conv2d(8, 16, 1),
            nn.Hardsigmoid(),
        )  # fmt: skip
        self.project = nn.Conv2d(16, 16, 1, bias=False)
        self.silu = nn.Sequential(nn.Conv2d(16, 24, 3, padding=1), nn.SiLU())
        self.relu6 = nn.Sequential(nn.Conv2d(24, 24, 3, groups=2), nn.ReLU6())
        self.pool = nn.MaxPool2d(2)
        self.float_out = nn.Conv2d(48, 16, 3, padding=1)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.stem(x)
        y = self.depthwise(x)
        y = y * self.squeeze(y)
        x = torch.relu(x + self.project(y))
        x = self.pool(self.relu6(self.silu(x)))
        x = torch.cat([x, x], 1)
        x = self.float_out(x)
        return {"map": x.sigmoid(), "classes": self.head(x.mean((2, 3)))}


@pytest.fixture(scope="session")
def images() -> Tensor:
    return torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="session")
def float_model() -> nn.Module:
    torch.manual_seed(0)
    return Kinds().eval()


@pytest.fixture(scope="session")
def int8_model(float_model: nn.Module, images: Tensor) -> Int8Model:
    return quantized(float_model, images)


@pytest.fixture(scope="session")
def symmetric_model(float_model: nn.Module, images: Tensor) -> Int8Model:
    return quantized(float_model, images, symmetric=True)


def quantized(model: nn.Module, images: Tensor, symmetric: bool = False) -> Int8Model:
    # Where a layer runs must not hang on what was measured here.
    result = quantize(model, [images], QuantizationConfig(placement="all", symmetric=symmetric))
    assert isinstance(result, Int8Model)
    return result


@pytest.fixture(scope="session")
def files(
    int8_model: Int8Model, images: Tensor, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, OnnxExport]:
    """Writes the int8 model for each runtime."""
    folder = tmp_path_factory.mktemp("onnx")
    return {
        preset: export_onnx(int8_model, folder / f"{preset}.onnx", images, preset)
        for preset in PRESETS
    }

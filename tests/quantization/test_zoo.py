"""Every classification, segmentation and video model of torchvision becomes an int8 program."""

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from torchcompress.quantization import Int8Model, QuantizationConfig, interpreter, quantize
from torchcompress.quantization.int8 import reference
from torchcompress.quantization.sources import folded_tensors
from torchcompress.quantization.sqnr import sqnr
from torchcompress.quantization.trace import trace

pytestmark = pytest.mark.zoo

SEGMENTATION = models.list_models(module=models.segmentation)
VIDEO = models.list_models(module=models.video)
OTHER = {
    *models.list_models(module=models.detection),
    *models.list_models(module=models.optical_flow),
    *models.list_models(module=models.quantization),
}
NAMES = sorted(set(models.list_models()) - OTHER)


def build(name: str) -> nn.Module:
    settings: dict[str, Any] = {"weights": None}
    if name in SEGMENTATION:
        settings["weights_backbone"] = None
    if name in ("googlenet", "inception_v3"):
        settings["init_weights"] = False
    if name.startswith("vit"):
        settings["image_size"] = _vit_size(name)
    torch.manual_seed(0)
    model = models.get_model(name, **settings).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                nn.init.normal_(parameter, std=0.1)
    return model


def shapes(name: str) -> list[tuple[int, ...]]:
    """Two batch sizes, and two image sizes where the model allows it."""
    frames = (16,) if name.startswith(("s3d", "mvit")) else (8,) if name in VIDEO else ()
    if name.startswith("vit"):
        size = _vit_size(name)
        return [(2, 3, size, size), (1, 3, size, size)]
    if name.startswith(("maxvit", "mvit", "s3d")):
        return [(2, 3, *frames, 224, 224), (1, 3, *frames, 224, 224)]
    return [(2, 3, *frames, 96, 96), (1, 3, *frames, 80, 112)]


def _vit_size(name: str) -> int:
    return 56 if name == "vit_h_14" else 64


def tensors(result: Any) -> list[Tensor]:
    return list(result.values()) if isinstance(result, dict) else [result]


@pytest.mark.parametrize("name", NAMES)
def test_the_program_equals_the_model(name: str) -> None:
    model = build(name)
    program, sources = trace(model)
    folded = folded_tensors(sources, model.state_dict())
    for shape in shapes(name):
        x = torch.randn(shape)
        with torch.no_grad():
            want, got = model(x), interpreter.run(program, folded, [x])
        for a, b in zip(tensors(got), tensors(want), strict=True):
            assert (a - b).abs().max() <= 1e-4 * b.abs().max()


@pytest.mark.parametrize("name", NAMES)
def test_int8(name: str) -> None:
    model = build(name)
    x = torch.randn(shapes(name)[1])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*concatenated branches", UserWarning)
        quantized = quantize(model, [x], QuantizationConfig.preset("fast"))
    assert isinstance(quantized, Int8Model)
    same = interpreter.run(quantized.program, quantized.tensors, [x], bind=reference.bind)
    with torch.no_grad():
        want, got = model(x), quantized(x)
    for a, b, c in zip(tensors(want), tensors(got), tensors(same), strict=True):
        quality, agreement = sqnr(a, b), sqnr(c, b)
        assert quality is not None
        assert quality > 20
        # Steps of one on the way add up, and stay below what quantization itself costs.
        assert agreement is None or agreement > quality

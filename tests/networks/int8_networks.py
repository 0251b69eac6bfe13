"""Networks that no trace follows, and quantizing those that are one program, for tests."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign

from torchcompress.quantization import Int8Model, PartlyInt8Model, QuantizationConfig, quantize

Config = QuantizationConfig | str | None


def quantize_whole(
    model: nn.Module, calibration: Iterable[Any], config: Config = None
) -> Int8Model:
    made = quantize(model, calibration, config)
    assert isinstance(made, Int8Model)
    return made


def quantize_partly(
    model: nn.Module, calibration: Iterable[Any], config: Config = None
) -> PartlyInt8Model:
    made = quantize(model, calibration, config)
    assert isinstance(made, PartlyInt8Model)
    return made


class Branching(nn.Module):
    """Takes one of two ways by the values of its input; a norm stands alone between them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.bright = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
        self.dark = nn.Sequential(nn.Conv2d(8, 8, 1), nn.Hardswish())
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        y = self.bright(y) if float(x.mean()) > 0 else self.dark(y)
        return self.head(self.norm(y).mean((2, 3)))


def both_ways(samples: int = 8, size: int = 6) -> list[Tensor]:
    """Returns a batch for each way of `Branching`."""
    x = torch.randn(samples, 3, size, size)
    return [x + 0.5, x - 0.5]


def tiny_mask_rcnn() -> MaskRCNN:
    body = nn.Sequential(
        nn.Conv2d(3, 8, 3, 4, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU()
    )
    vars(body)["out_channels"] = 16
    return MaskRCNN(
        body,
        num_classes=3,
        min_size=64,
        max_size=64,
        rpn_anchor_generator=AnchorGenerator(((16, 32),), ((1.0,),)),
        box_roi_pool=MultiScaleRoIAlign(["0"], 3, 2),
        mask_roi_pool=MultiScaleRoIAlign(["0"], 4, 2),
        box_score_thresh=0.0,
        box_detections_per_img=5,
    ).eval()

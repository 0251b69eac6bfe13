"""Every model of torchvision, with random weights and an example input, small enough to trace.

Classification, segmentation, detection, video and optical flow. The `quantized_*` builders make
the networks of classification anew and are left out.

    python benchmarks/torchvision_zoo.py [GLOB ...]

traces the models that match and prints what each met.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models

from torchcompress.core.inputs import Inputs, call
from torchcompress.graph import trace

_SMALL_TRANSFORM: dict[str, Any] = {"min_size": 128, "max_size": 128}
_TWO_STAGE: dict[str, Any] = {
    **_SMALL_TRANSFORM,
    "rpn_pre_nms_top_n_test": 50,
    "rpn_post_nms_top_n_test": 10,
    "box_score_thresh": 0.0,
    "box_detections_per_img": 5,
}
_ONE_STAGE: dict[str, Any] = {
    "score_thresh": 0.0,
    "topk_candidates": 50,
    "detections_per_img": 5,
}

_OPTIONS: dict[str, dict[str, Any]] = {
    "vit_?_16": {"image_size": 32},
    "vit_?_32": {"image_size": 64},
    "vit_h_14": {"image_size": 28},
    "googlenet": {"init_weights": True, "aux_logits": False},
    "inception_v3": {"init_weights": True, "aux_logits": False},
    "fasterrcnn_*": _TWO_STAGE,
    "maskrcnn_*": _TWO_STAGE,
    "keypointrcnn_*": _TWO_STAGE,
    "retinanet_*": {**_SMALL_TRANSFORM, **_ONE_STAGE},
    "fcos_*": {**_SMALL_TRANSFORM, **_ONE_STAGE},
    "ssd*": _ONE_STAGE,
}
"""Constructor arguments by glob: small images, and boxes from random weights."""

_IMAGES = (2, 3, 64, 64)

_SHAPES: dict[str, tuple[int, ...]] = {
    "inception_v3": (2, 3, 96, 96),
    "vit_?_16": (2, 3, 32, 32),
    "vit_h_14": (1, 3, 28, 28),
    "maxvit_t": (1, 3, 224, 224),
    "mvit_*": (1, 3, 16, 224, 224),
    "s3d": (1, 3, 14, 224, 224),
    "swin3d_*": (1, 3, 4, 64, 64),
    "mc3_18": (2, 3, 4, 32, 32),
    "r*d_18": (2, 3, 4, 32, 32),
    "*rcnn_*": (3, 128, 128),
    "retinanet_*": (3, 128, 128),
    "fcos_*": (3, 128, 128),
    "ssd300_*": (3, 300, 300),
    "ssdlite320_*": (3, 320, 320),
    "raft_*": (1, 3, 128, 128),
}
"""Shapes of the example image by glob, where it is not `_IMAGES`."""


@dataclass(frozen=True)
class Entry:
    """One model of the zoo.

    Attributes:
        name: The name in torchvision.
        shape: Shape of the example image, clip or frame.
        options: Constructor arguments.
        wrap: Makes the model's inputs of the image.
    """

    name: str
    shape: tuple[int, ...]
    options: dict[str, Any]
    wrap: Callable[[Tensor], Inputs]

    @property
    def x(self) -> Inputs:
        """The example inputs, the same at each call."""
        return self.wrap(torch.rand(self.shape, generator=torch.Generator().manual_seed(1)))

    def build(self) -> nn.Module:
        """Returns the model in eval mode, with seeded weights under which no channel is dead."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = models.get_model(self.name, weights=None, **self.options).eval()
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.abs().max() < 1e-4:
                        parameter.normal_(std=0.1)
        _measure_norms(model, self.x)
        return model


def _measure_norms(model: nn.Module, x: Inputs) -> None:
    """Gives every batch norm the statistics of `x`, so that deep activations stay near one."""

    def measure(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen = inputs[0].transpose(0, 1).flatten(1)
        norm.get_buffer("running_mean").copy_(seen.mean(1))
        norm.get_buffer("running_var").copy_(seen.var(1, correction=0).clamp_min(1e-3))

    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    handles = [norm.register_forward_pre_hook(measure) for norm in norms]
    with torch.no_grad():
        call(model, x)
    for handle in handles:
        handle.remove()


def _two_frames(image: Tensor) -> Inputs:
    moved = image.roll((2, 3), (2, 3))
    return {"image1": image, "image2": moved, "num_flow_updates": 2}


def _one_image(image: Tensor) -> Inputs:
    return ([image],)


def _entries() -> dict[str, Entry]:
    entries = {}
    for kind, backbone, wrap in _KINDS:
        for name in models.list_models(kind):
            shape = next((s for glob, s in _SHAPES.items() if fnmatchcase(name, glob)), _IMAGES)
            options = next((o for glob, o in _OPTIONS.items() if fnmatchcase(name, glob)), {})
            options = {**options, "weights_backbone": None} if backbone else options
            entries[name] = Entry(name, shape, options, wrap)
    return entries


_KINDS: tuple[tuple[ModuleType, bool, Callable[[Tensor], Inputs]], ...] = (
    (models, False, lambda image: image),
    (models.segmentation, True, lambda image: image),
    (models.detection, True, _one_image),
    (models.video, False, lambda image: image),
    (models.optical_flow, False, _two_frames),
)
"""Modules of torchvision, whether their models have a backbone, and how they take an image."""

ZOO: dict[str, Entry] = _entries()
"""Every model by its name in torchvision."""

REPRESENTATIVE = (
    "resnet18",
    "mobilenet_v3_small",
    "shufflenet_v2_x0_5",
    "densenet121",
    "googlenet",
    "regnet_y_400mf",
    "efficientnet_b0",
    "convnext_tiny",
    "vit_b_16",
    "swin_t",
    "lraspp_mobilenet_v3_large",
    "ssdlite320_mobilenet_v3_large",
    "r3d_18",
    "raft_small",
)
"""One small model of each kind."""


def operations_without_a_rule(name: str) -> dict[str, int]:
    """Returns how often a model runs each operation that has no rule."""
    entry = ZOO[name]
    return dict(trace(entry.build(), entry.x).unknown)


def main(globs: list[str]) -> None:
    for name in ZOO:
        if not globs or any(fnmatchcase(name, glob) for glob in globs):
            start = time.perf_counter()
            unknown = operations_without_a_rule(name)
            print(f"{name:40} {time.perf_counter() - start:5.1f} s  {unknown}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])

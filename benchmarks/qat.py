"""One epoch of quantization-aware training against quantization without training.

Run it from the checkout: python benchmarks/qat.py --checkpoints DIR --data DIR
Networks trained on Fashion-MNIST are quantized from 512 of its training images by tc.quantize,
and by one epoch of training over all 60,000 with and without learned steps, with three seeds.
Accuracy is on all 10,000 test images; what a step costs is told against a float step, interleaved,
the lowest decile of each. Each row goes to benchmarks/results/qat.json as soon as it is measured;
those that are there are not measured again. --table prints them, --steps N stops each training
early and writes nothing.
"""

import argparse
import copy
import json
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import get_model

import torchcompress as tc
from torchcompress.core.files import write_text
from torchcompress.data import Data, Loader, open_data
from torchcompress.metrics.environment import environment

RESULTS = Path(__file__).parent / "results" / "qat.json"
NETWORKS = {"resnet18": 32, "mobilenet_v2": 32, "mobilenet_v3_small": 64}
WAYS = ("ptq", "qat", "qat, learned steps")
SEEDS = (0, 1, 2)
BATCH = 128
LEARNING_RATE = 0.005
TIMED = 20

Row = dict[str, Any]


class Shortened:
    """The first batches of a loader."""

    def __init__(self, loader: Loader, steps: int) -> None:
        self.loader, self.steps = loader, steps

    def __len__(self) -> int:
        return min(self.steps, len(self.loader))

    def __iter__(self) -> Iterator[Any]:
        return islice(iter(self.loader), self.steps)


def load(name: str, checkpoints: str) -> nn.Module:
    net = get_model(name, weights=None, num_classes=10)
    file = Path(checkpoints) / f"{name}_fashion_mnist_{NETWORKS[name]}px.safetensors"
    net.load_state_dict(load_file(file))
    return net.eval()


def prepare(net: nn.Module, data: Data, way: str) -> nn.Module:
    config = tc.QATConfig(learned=way.endswith("learned steps"))
    return tc.prepare_qat(net, data.example(), config, calibration=data.calibration)


def train(net: nn.Module, data: Data, way: str, seed: int, steps: int | None) -> nn.Module:
    """Trains for an epoch, or some steps of it, and returns the int8 network."""
    prepared = prepare(net, data, way)
    config = tc.TrainerConfig(epochs=1, lr=LEARNING_RATE, warmup_epochs=0.1, seed=seed)
    loader = data.train if steps is None else Shortened(data.train, steps)
    tc.Trainer(prepared, loader, config=config).fit()
    return tc.convert(prepared)


def step_cost(net: nn.Module, data: Data, way: str) -> float:
    """Returns how many times longer a training step takes than one of the float network."""
    images, labels = next(iter(data.train))
    nets = [copy.deepcopy(net).train(), prepare(net, data, way).train()]
    tc.freeze_norms(nets[1])
    optimizers = [torch.optim.SGD(each.parameters(), lr=1e-4, momentum=0.9) for each in nets]
    times: list[list[float]] = [[], []]
    for _ in range(TIMED):
        for each, optimizer, taken in zip(nets, optimizers, times, strict=True):
            start = time.perf_counter()
            step(each, optimizer, images, labels)
            taken.append(time.perf_counter() - start)
    plain, faked = (sorted(taken)[TIMED // 10] for taken in times)
    return faked / plain


def step(net: Callable[[Tensor], Tensor], optimizer: Any, images: Tensor, labels: Tensor) -> None:
    optimizer.zero_grad()
    nn.functional.cross_entropy(net(images), labels).backward()
    optimizer.step()


def measure(name: str, way: str, seed: int, options: argparse.Namespace) -> Row:
    net = load(name, options.checkpoints)
    size = NETWORKS[name]
    data = open_data("fashion-mnist", options.data, image_size=size, batch_size=BATCH, seed=seed)
    row: Row = {"network": name, "way": way, "seed": seed}
    start = time.perf_counter()
    if way == "ptq":
        int8: nn.Module = tc.quantize(net, data.calibration)
    else:
        int8 = train(net, data, way, seed, options.steps)
    row["seconds"] = time.perf_counter() - start
    row["accuracy"] = tc.evaluate(int8, data.val).fraction
    if seed == SEEDS[0]:
        row["float"] = tc.evaluate(net, data.val).fraction
        row["step_cost"] = step_cost(net, data, way) if way != "ptq" else None
    return row


def table(rows: list[Row]) -> str:
    lines = [f"| network | float, % | {', % | '.join(WAYS)}, % | a step costs |", "|---" * 6 + "|"]
    for name in NETWORKS:
        mine = [row for row in rows if row["network"] == name]
        cells = []
        for way in WAYS:
            found = [100 * row["accuracy"] for row in mine if row["way"] == way]
            cells.append(f"{mean(found):.2f} ({min(found):.2f} to {max(found):.2f})")
        dense = next(100 * row["float"] for row in mine if "float" in row)
        costs = [f"{row['step_cost']:.2f}x" for row in mine if row.get("step_cost")]
        lines.append(f"| {name} | {dense:.2f} | {' | '.join(cells)} | {', '.join(costs)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoints", default="../shared/checkpoints")
    parser.add_argument("--data", help="where Fashion-MNIST is")
    parser.add_argument("--steps", type=int, help="of each training, for a trial")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    found: dict[str, Any] = {"rows": []}
    if RESULTS.is_file():
        found = json.loads(RESULTS.read_text(encoding="utf-8"))
    if not options.table:
        done = {(row["network"], row["way"], row["seed"]) for row in found["rows"]}
        for seed in SEEDS:
            for name in NETWORKS:
                for way in WAYS:
                    if (name, way, seed) in done:
                        continue
                    row = measure(name, way, seed, options)
                    print(row, flush=True)
                    found["rows"].append(row)
                    if options.steps is None:
                        found["environment"] = environment()
                        write_text(RESULTS, json.dumps(found, indent=2) + "\n")
    print(table(found["rows"]))


if __name__ == "__main__":
    main()

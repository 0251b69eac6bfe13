"""Weights pruned while training, against torch.nn.utils.prune fine-tuned alike.

Run it from the checkout: python benchmarks/weights_in_loop.py --checkpoints DIR --data DIR
A ResNet-18 trained on Fashion-MNIST is brought to 90 and 95 % zeros and trained for three passes
over the 10,000 bundled images, by each way with the same seeds, order and steps, on one thread.
Accuracy is on all 10,000 test images. Each row goes to benchmarks/results/weights_in_loop.json as
soon as it is measured; those that are there are not measured again. --table prints them.
"""

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.utils import prune
from torchvision.models import get_model

from torchcompress import Cubic, MagnitudePruner, Target, Trainer, TrainerConfig, evaluate
from torchcompress.core.files import write_text
from torchcompress.data import Data, open_data
from torchcompress.metrics.environment import environment
from torchcompress.training import Callback, Run

RESULTS = Path(__file__).parent / "results" / "weights_in_loop.json"
SPARSITIES = (0.9, 0.95)
SEEDS = (0, 1, 2)
IMAGE_SIZE = 32
BATCH = 64
EPOCHS = 3
LEARNING_RATE = 0.02
GRADUAL = 0.3
"""The share of the training after which a gradual way has reached its sparsity.

Chosen, like the scope, with seed 0 at 95 % on 2,000 images drawn from the 60,000 training images, a
sixth of which the bundled ones hold; never on the test images."""

Row = dict[str, Any]


def load(checkpoints: str) -> nn.Module:
    net = get_model("resnet18", weights=None, num_classes=10)
    file = Path(checkpoints) / f"resnet18_fashion_mnist_{IMAGE_SIZE}px.safetensors"
    net.load_state_dict(load_file(file))
    return net.eval()


def cubic(steps: int) -> Cubic:
    end = math.ceil(GRADUAL * steps)
    return Cubic(end=end, every=max(end // 20, 1))


class Peer(Callback):
    """torch.nn.utils.prune, global by magnitude, at once."""

    def __init__(self, net: nn.Module, sparsity: float) -> None:
        layers = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        self.weights = [(layer, "weight") for layer in layers]
        prune.global_unstructured(self.weights, prune.L1Unstructured, amount=sparsity)

    def on_fit_end(self, run: Run) -> None:
        for layer, name in self.weights:
            prune.remove(layer, name)


WAYS: dict[str, Callable[[nn.Module, float, int], Callback]] = {
    "torchcompress at once": lambda net, sparsity, steps: MagnitudePruner(
        net, Target(sparsity=sparsity)
    ),
    "torchcompress at once, ends too": lambda net, sparsity, steps: MagnitudePruner(
        net, Target(sparsity=sparsity), keep_ends=False
    ),
    "torchcompress along a cubic schedule": lambda net, sparsity, steps: MagnitudePruner(
        net, Target(sparsity=sparsity), scope="lamp", schedule=cubic(steps)
    ),
    "torch.nn.utils.prune at once": lambda net, sparsity, steps: Peer(net, sparsity),
}


def zeros(net: nn.Module) -> float:
    """Returns the fraction of convolution and linear weights that are zero."""
    weights = [m.weight for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    return sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)


def fine_tune(
    net: nn.Module, way: Callable[..., Callback], sparsity: float, seed: int, data: Data
) -> None:
    """Brings a network to a sparsity and trains it."""
    # torch.nn.utils.prune takes contiguous weights only.
    config = TrainerConfig(
        epochs=EPOCHS, lr=LEARNING_RATE, warmup_epochs=0.2, seed=seed, channels_last=False
    )
    pruner = way(net, sparsity, EPOCHS * len(data.train))
    Trainer(net, data.train, config=config, callbacks=[pruner]).fit()


def measure(name: str, sparsity: float, seed: int, checkpoints: str, data: str | None) -> Row:
    torch.set_num_threads(1)
    net = load(checkpoints)
    mini = open_data("fashion-mnist-mini", image_size=IMAGE_SIZE, batch_size=BATCH, seed=seed)
    fine_tune(net, WAYS[name], sparsity, seed, mini)
    test = open_data("fashion-mnist", data, image_size=IMAGE_SIZE, batch_size=256).val
    return {
        "way": name,
        "sparsity": sparsity,
        "seed": seed,
        "zeros": zeros(net),
        "accuracy": evaluate(net, test).fraction,
    }


def table(rows: list[Row]) -> str:
    lines = [
        f"| zeros | {' | '.join(f'{name}, %' for name in WAYS)} |",
        "|---" * (len(WAYS) + 1) + "|",
    ]
    for sparsity in SPARSITIES:
        cells = []
        for name in WAYS:
            found = [
                100 * row["accuracy"]
                for row in rows
                if (row["way"], row["sparsity"]) == (name, sparsity)
            ]
            cells.append(f"{mean(found):.2f} ({min(found):.2f} to {max(found):.2f})")
        lines.append(f"| {100 * sparsity:g} % | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoints", default="../shared/checkpoints")
    parser.add_argument("--data", help="where Fashion-MNIST is")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    found: dict[str, Any] = {"rows": []}
    if RESULTS.is_file():
        found = json.loads(RESULTS.read_text(encoding="utf-8"))
    if not options.table:
        done = {(row["way"], row["sparsity"], row["seed"]) for row in found["rows"]}
        for seed in SEEDS:
            for sparsity in SPARSITIES:
                for name in WAYS:
                    if (name, sparsity, seed) not in done:
                        row = measure(name, sparsity, seed, options.checkpoints, options.data)
                        print(row, flush=True)
                        found["rows"].append(row)
                        found["environment"] = environment()
                        write_text(RESULTS, json.dumps(found, indent=2) + "\n")
    print(table(found["rows"]))


if __name__ == "__main__":
    main()

"""Zeros without training: 512 unlabelled images, no labels, against torch.nn.utils.prune.

Run it from the checkout: python benchmarks/training_free.py --checkpoints ../shared/checkpoints
Accuracy is on the 10,000 test images of Fashion-MNIST, with the trained networks that
--checkpoints says where to find. Each row is written to benchmarks/results/training_free.json
once it is done, and a row that is there is not run again. --table prints the committed results.
"""

import argparse
import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils import prune
from torchvision.models import get_model

import torchcompress as tc
from torchcompress.data import open_data
from torchcompress.metrics.environment import environment
from torchcompress.pruning.sparsify_passes import Ingredients
from torchcompress.pruning.weights.selection import prunable_weights
from torchcompress.reconstruction.batch_norms import reestimate_batch_norms
from torchcompress.reconstruction.capture import Calibration

RESULTS = Path(__file__).parent / "results" / "training_free.json"
IMAGES = 512
SECONDS_GOAL = 300
SIZES = {"resnet18": 32, "mobilenet_v2": 32, "mobilenet_v3_small": 64}
GOALS: dict[str, dict[str, float]] = {
    "resnet18": {"0.9": 92.3, "0.95": 92.0, "0.98": 90.0},
    "mobilenet_v2": {"0.7": 91.5, "0.8": 91.0, "0.9": 89.0},
    "mobilenet_v3_small": {"0.7": 91.9, "0.8": 91.6, "0.9": 89.0},
}
"""Accuracy in percent by fraction of zeros."""

TAKEN_APART = {"resnet18": "0.98", "mobilenet_v2": "0.9", "mobilenet_v3_small": "0.9"}
"""The setting whose ingredients are left out one at a time."""

WITHOUT = {
    "without selection by cost": Ingredients(selection="magnitude"),
    "without update": Ingredients(update=False),
    "without allocation": Ingredients(allocation="layer"),
    "without passes": Ingredients(step=0),
    "without batch norms": Ingredients(batch_norms=False),
}
PEERS = ("torch.nn.utils.prune", "torch.nn.utils.prune, batch norms")

Row = dict[str, Any]
Key = tuple[str, str, str]


def tasks() -> Iterator[Key]:
    """Yields model, setting and method of every row, what matters most first."""
    for model, goals in GOALS.items():
        yield model, "dense", "dense"
        for setting in goals:
            yield model, setting, "torchcompress"
    for model in GOALS:
        yield model, "2:4", "torchcompress"
    for model, goals in GOALS.items():
        for setting in goals:
            for method in PEERS:
                yield model, setting, method
    for model, setting in TAKEN_APART.items():
        for method in WITHOUT:
            yield model, setting, method


def load(model: str, checkpoints: str) -> nn.Module:
    net = get_model(model, weights=None, num_classes=10)
    file = Path(checkpoints) / f"{model}_fashion_mnist_{SIZES[model]}px.safetensors"
    net.load_state_dict(load_file(file))
    return net.eval()


def run(key: Key, checkpoints: str, data: str | None) -> Row:
    model, setting, method = key
    size = SIZES[model]
    net = load(model, checkpoints)
    sets = open_data("fashion-mnist", data, image_size=size, batch_size=128, calibration=IMAGES)
    images = [x for x, _ in sets.calibration]
    start = time.perf_counter()
    if method != "dense":
        net = compressed(net, setting, method, images)
    seconds = time.perf_counter() - start
    weights = [w.parameter for w in prunable_weights(net, keep_ends=False).weights]
    return {
        "model": model,
        "setting": setting,
        "method": method,
        "zeros": sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights),
        "accuracy": tc.evaluate(net, sets.val).fraction,
        "seconds": round(seconds, 1),
        "environment": environment(),
    }


def compressed(net: nn.Module, setting: str, method: str, images: list[Tensor]) -> nn.Module:
    if method in PEERS:
        net = by_magnitude(net, float(setting))
        if method == PEERS[1]:
            reestimate_batch_norms(net, Calibration(images, net))
        return net
    if setting == "2:4":
        return tc.sparsify(net, None, images, pattern="2:4", exclude=odd_layers(net, 4))
    ingredients = WITHOUT.get(method, Ingredients())
    target = tc.Target(sparsity=float(setting))
    return tc.sparsify(net, target, images, ingredients=ingredients)


def by_magnitude(net: nn.Module, sparsity: float) -> nn.Module:
    layers = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    pairs = [(layer, "weight") for layer in layers]
    prune.global_unstructured(pairs, prune.L1Unstructured, amount=sparsity)
    for layer in layers:
        prune.remove(layer, "weight")
    return net


def odd_layers(net: nn.Module, divisor: int) -> list[str]:
    """Returns the layers whose inputs groups of so many do not divide: depthwise, and the first."""
    weights = prunable_weights(net, keep_ends=False).weights
    return [w.layer for w in weights if w.inputs % divisor]


def tables(rows: Iterable[Row]) -> str:
    found = {(r["model"], r["setting"], r["method"]): r for r in rows}

    def cell(*key: str) -> str:
        return f"{100 * found[key]['accuracy']:.2f}" if key in found else "-"

    lines = [
        "| model | zeros | torch.nn.utils.prune | with batch norms | torchcompress | goal "
        "| seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for model, goals in GOALS.items():
        lines.append(f"| {model} | none | | | {cell(model, 'dense', 'dense')} | | |")
        for setting in (*goals, "2:4"):
            ours = found.get((model, setting, "torchcompress"))
            zeros = f"{100 * ours['zeros']:.1f} %" if ours else setting
            name = f"2:4 ({zeros})" if setting == "2:4" else zeros
            seconds = f"{ours['seconds']:.0f}" if ours else "-"
            cells = [cell(model, setting, m) for m in (*PEERS, "torchcompress")]
            goal = goals.get(setting, "")
            lines.append(f"| {model} | {name} | " + " | ".join(cells) + f" | {goal} | {seconds} |")
    names = list(WITHOUT)
    lines += ["", "| model | zeros | all | " + " | ".join(names) + " |"]
    lines.append("|---|---|---|" + "---|" * len(names))
    for model, setting in TAKEN_APART.items():
        cells = [cell(model, setting, method) for method in ("torchcompress", *names)]
        lines.append(f"| {model} | {100 * float(setting):g} % | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoints", default="../shared/checkpoints")
    parser.add_argument("--data", help="where Fashion-MNIST is")
    parser.add_argument("--models", nargs="+", choices=GOALS, default=list(GOALS))
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    rows: list[Row] = []
    if RESULTS.is_file():
        rows = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]
    done = {(r["model"], r["setting"], r["method"]) for r in rows}
    for key in () if options.table else tasks():
        if key in done or key[0] not in options.models:
            continue
        rows.append(run(key, options.checkpoints, options.data))
        print({k: v for k, v in rows[-1].items() if k != "environment"}, flush=True)
        RESULTS.write_text(json.dumps({"rows": rows}, indent=2) + "\n", encoding="utf-8")
    print(tables(rows))


if __name__ == "__main__":
    main()

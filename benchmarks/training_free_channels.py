"""Channels without training: 512 unlabelled images, no labels, against Torch-Pruning.

Run it from the checkout: python benchmarks/training_free_channels.py
Accuracy is on the 10,000 test images of Fashion-MNIST, with the trained networks that
--checkpoints says where to find. Each row is written to
benchmarks/results/training_free_channels.json once it is done, and a row that is there is not run
again. --table prints the committed results.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import torchcompress as tc
from torchcompress.data import open_data
from torchcompress.graph import count_macs
from torchcompress.metrics.environment import environment
from torchcompress.reconstruction.batch_norms import reestimate_batch_norms
from torchcompress.reconstruction.capture import Calibration

RESULTS = Path(__file__).parent / "results" / "training_free_channels.json"
IMAGES = 512
ROUND_TO = 8
SIZES = {"resnet18": 32, "mobilenet_v2": 32, "mobilenet_v3_small": 64}
GOALS: dict[str, dict[str, float]] = {
    "resnet18": {"0.5": 92.2, "0.3": 91.6, "0.15": 90.3},
    "mobilenet_v2": {"0.7": 91.3, "0.5": 90.8, "0.3": 89.3},
    "mobilenet_v3_small": {"0.7": 91.6, "0.5": 91.0},
}
"""Accuracy in percent by fraction of the MACs kept."""
TAKEN_APART = {"resnet18": "0.15", "mobilenet_v2": "0.3", "mobilenet_v3_small": "0.5"}
"""The setting whose ingredients are tried one at a time."""

Row = dict[str, Any]
Key = tuple[str, str, str]
Method = Callable[[nn.Module, Tensor, tc.Target, list[Tensor]], nn.Module]


def ours(net: nn.Module, x: Tensor, target: tc.Target, images: list[Tensor]) -> nn.Module:
    return tc.prune_channels(net, x, target, calibration=images, round_to=ROUND_TO)


def peer(net: nn.Module, x: Tensor, target: tc.Target, _: list[Tensor]) -> nn.Module:
    from peer.torch_pruning_runs import pruned_to_macs  # Of an extra that the table needs not.

    return pruned_to_macs(net, x, target.value, round_to=ROUND_TO)


def magnitude(net: nn.Module, x: Tensor, target: tc.Target, _: list[Tensor]) -> nn.Module:
    return tc.prune_channels(net, x, target, round_to=ROUND_TO)


def update_alone(net: nn.Module, x: Tensor, target: tc.Target, images: list[Tensor]) -> nn.Module:
    return tc.prune_channels(
        net, x, target, importance="magnitude", calibration=images, round_to=ROUND_TO
    )


def selection_and_update(
    net: nn.Module, x: Tensor, target: tc.Target, images: list[Tensor]
) -> nn.Module:
    return tc.prune_channels(net, x, target, scope="layer", calibration=images, round_to=ROUND_TO)


def without_update(net: nn.Module, x: Tensor, target: tc.Target, images: list[Tensor]) -> nn.Module:
    return tc.prune_channels(
        net, x, target, importance="reconstruction", data=images, round_to=ROUND_TO
    )


def with_batch_norms(method: Method) -> Method:
    """Returns a method whose batch norms are estimated anew afterwards, whether it helps or not."""

    def both(net: nn.Module, x: Tensor, target: tc.Target, images: list[Tensor]) -> nn.Module:
        smaller = method(net, x, target, images)
        reestimate_batch_norms(smaller, Calibration(images, smaller))
        return smaller

    return both


PEERS: dict[str, Method] = {
    "Torch-Pruning": peer,
    "Torch-Pruning, batch norms": with_batch_norms(peer),
}
APART: dict[str, Method] = {
    "magnitude": magnitude,
    "magnitude, batch norms": with_batch_norms(magnitude),
    "magnitude, update": update_alone,
    "selection, update": selection_and_update,
    "selection, allocation": without_update,
    "selection, allocation, update, batch norms": with_batch_norms(ours),
}
METHODS: dict[str, Method] = {"torchcompress": ours, **PEERS, **APART}


def tasks() -> Iterator[Key]:
    """Yields model, fraction kept and method of every row, what matters most first."""
    for model, goals in GOALS.items():
        yield model, "1", "dense"
        for kept in goals:
            yield model, kept, "torchcompress"
    for model, kept in TAKEN_APART.items():
        for method in APART:
            yield model, kept, method
    for model, goals in GOALS.items():
        for kept in goals:
            for method in PEERS:
                yield model, kept, method


def run(key: Key, checkpoints: str, data: str | None) -> Row:
    model, kept, method = key
    size = SIZES[model]
    from peer.accuracy import load

    net = load(model, checkpoints, size)
    sets = open_data("fashion-mnist", data, image_size=size, batch_size=64, calibration=IMAGES)
    images = [x for x, _ in sets.calibration]
    x, whole = images[0][:1], count_macs(net, images[0][:1])
    start = time.perf_counter()
    if method != "dense":
        net = METHODS[method](net, x, tc.Target(macs=float(kept)), images)
    seconds = time.perf_counter() - start
    return {
        "model": model,
        "kept": kept,
        "method": method,
        "macs": count_macs(net, x) / whole,
        "params": sum(p.numel() for p in net.parameters()),
        "accuracy": tc.evaluate(net, sets.val).fraction,
        "seconds": round(seconds, 1),
        "threads": torch.get_num_threads(),
        "environment": environment(),
    }


def tables(rows: Iterable[Row]) -> str:
    found = {(row["model"], row["kept"], row["method"]): row for row in rows}

    def cell(model: str, kept: str, method: str) -> str:
        row = found.get((model, kept, method))
        return f"{100 * row['accuracy']:.2f}" if row else "-"

    lines = [
        "| model | MACs kept | Torch-Pruning | with batch norms | torchcompress | goal | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for model, goals in GOALS.items():
        lines.append(f"| {model} | all | | | {cell(model, '1', 'dense')} | | |")
        for kept, goal in goals.items():
            mine = found.get((model, kept, "torchcompress"))
            cells = [cell(model, kept, method) for method in (*PEERS, "torchcompress")]
            seconds = f"{mine['seconds']:.0f}" if mine else "-"
            share = f"{100 * float(kept):g} %"
            lines.append(f"| {model} | {share} | " + " | ".join(cells) + f" | {goal} | {seconds} |")
    lines += ["", "| model | MACs kept | " + " | ".join([*APART, "torchcompress"]) + " |"]
    lines.append("|---|---|" + "---|" * (len(APART) + 1))
    for model, kept in TAKEN_APART.items():
        cells = [cell(model, kept, method) for method in (*APART, "torchcompress")]
        lines.append(f"| {model} | {100 * float(kept):g} % | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoints", default="../shared/checkpoints")
    parser.add_argument("--data", help="where Fashion-MNIST is")
    parser.add_argument("--models", nargs="+", default=list(GOALS), choices=list(GOALS))
    parser.add_argument("--methods", nargs="+", default=["dense", *METHODS])
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    rows: list[Row] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else []
    done = {(row["model"], row["kept"], row["method"]) for row in rows}
    for key in tasks():
        chosen = key[0] in options.models and key[2] in options.methods
        if not options.table and chosen and key not in done:
            rows.append(run(key, options.checkpoints, options.data))
            print({k: v for k, v in rows[-1].items() if k != "environment"}, flush=True)
            RESULTS.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    print(tables(rows))


if __name__ == "__main__":
    main()

"""Channel pruning against Torch-Pruning 1.6.1, with the same importance, in the same process.

Run it from the checkout: python benchmarks/channels.py --part planning
Parts: planning (time and share over torchvision), memory, accuracy (--checkpoints says where the
trained models are; half an hour), latency. Each writes its own part of
benchmarks/results/channels.json. --table prints the committed results as Markdown.
"""

import argparse
import json
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from isolated import call_isolated
from peer import accuracy, latency
from peer.tables import TABLES, Row
from torchvision_zoo import ZOO

from torchcompress.metrics.environment import environment

RESULTS = Path(__file__).parent / "results" / "channels.json"
SECONDS = 120
"""What Torch-Pruning may take for one model, with all its rounds."""

MEMORY_MODELS = ("resnet50", "mobilenet_v2", "densenet121", "regnet_y_400mf", "convnext_tiny")


def run_planning(globs: list[str]) -> Iterable[Row]:
    """Yields times and shares of each model; without Torch-Pruning where it fails."""
    for name in ZOO:
        if any(fnmatchcase(name, glob) for glob in globs):
            row: Row = {"model": name}
            for function in ("time_planning", "measure_share"):
                task = f"peer.planning:{function}"
                found = call_isolated(task, timeout=SECONDS, model=name, with_peer=True)
                if "error" in found:
                    row["peer_error"] = found["error"]
                    found = call_isolated(task, timeout=SECONDS, model=name, with_peer=False)
                found.pop("wall_seconds")
                row |= found
            print(row, flush=True)
            yield row


def run_memory() -> Iterable[Row]:
    for name in MEMORY_MODELS:
        row: Row = {"model": name}
        for tool in ("ours", "ours_with_trial", "peer"):
            task = "peer.planning:measure_memory"
            found = call_isolated(task, timeout=SECONDS, model=name, tool=tool)
            row |= {key: found[key] for key in ("model_mib", "forward_mib")}
            row[f"{tool}_mib"] = found["plan_mib"]
        print(row, flush=True)
        yield row


def run_accuracy(checkpoints: str, data: str | None) -> Iterable[Row]:
    for seed in accuracy.SEEDS:
        for model in accuracy.MODELS:
            for kept in accuracy.KEPT:
                for tool in ("ours", "peer"):
                    row = accuracy.fine_tune(model, tool, kept, seed, checkpoints, data)
                    print(row, flush=True)
                    yield row


def run_latency() -> Iterable[Row]:
    for name in latency.MODELS:
        row = {"model": name, **latency.measure(name)}
        print(row, flush=True)
        yield row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=TABLES)
    parser.add_argument("--models", nargs="+", default=["*"], help="globs, for planning")
    parser.add_argument("--checkpoints", default="../shared/checkpoints", help="for accuracy")
    parser.add_argument("--data", help="where Fashion-MNIST is, for accuracy")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    if options.table:
        for part in TABLES:
            if part in results:
                print(f"{part}\n\n{TABLES[part](results[part]['rows'])}\n")
        return
    rows = {
        "planning": lambda: run_planning(options.models),
        "memory": run_memory,
        "accuracy": lambda: run_accuracy(options.checkpoints, options.data),
        "latency": run_latency,
    }[options.part]()
    results[options.part] = {"rows": list(rows), "environment": environment()}
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(TABLES[options.part](results[options.part]["rows"]))


if __name__ == "__main__":
    main()

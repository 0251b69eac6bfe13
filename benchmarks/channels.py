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
from statistics import geometric_mean, mean
from typing import Any

from isolated import call_isolated
from peer import accuracy, latency
from torchvision_zoo import ZOO

from torchcompress.metrics.environment import environment

RESULTS = Path(__file__).parent / "results" / "channels.json"
SECONDS = 120
"""What Torch-Pruning may take for one model, with all its rounds."""

PLANNING_GOAL = 2.0
MEMORY_MODELS = ("resnet50", "mobilenet_v2", "densenet121", "regnet_y_400mf", "convnext_tiny")

Row = dict[str, Any]


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


def planning_table(rows: list[Row]) -> str:
    lines = [
        "| model | torchcompress, s | with the trial, s | Torch-Pruning, s | times faster "
        "| prunable | Torch-Pruning |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        if "error" in r:
            lines.append(f"| {r['model']} | {r['error']} | | | | | |")
            continue
        peer = f"{r['peer_seconds']:.2f}" if "peer_seconds" in r else "fails"
        ratio = f"{r['peer_seconds'] / r['ours_seconds']:.2f}" if "peer_seconds" in r else ""
        share = f"{100 * r['peer_share']:.1f} %" if "peer_share" in r else ""
        lines.append(
            f"| {r['model']} | {r['ours_seconds']:.2f} | {r['ours_with_trial_seconds']:.2f} "
            f"| {peer} | {ratio} | {100 * r['ours_share']:.1f} % | {share} |"
        )
    ratios = [r["peer_seconds"] / r["ours_seconds"] for r in rows if "peer_seconds" in r]
    lines.append(f"| geometric mean of {len(ratios)} | | | | {geometric_mean(ratios):.2f} | | |")
    return "\n".join(lines)


def memory_table(rows: list[Row]) -> str:
    lines = [
        "| model | model, MiB | forward, MiB | planning | with the trial | Torch-Pruning |",
        "|---|---|---|---|---|---|",
    ]
    keys = ("model_mib", "forward_mib", "ours_mib", "ours_with_trial_mib", "peer_mib")
    lines += [
        f"| {r['model']} | " + " | ".join(f"{r[key]:.0f}" for key in keys) + " |" for r in rows
    ]
    return "\n".join(lines)


def accuracy_table(rows: list[Row]) -> str:
    lines = [
        "| model | MACs | torchcompress, % | Torch-Pruning, % | MACs that are left | parameters |",
        "|---|---|---|---|---|---|",
    ]
    for model in accuracy.MODELS:
        for kept in accuracy.KEPT:
            mine, other = (
                [r for r in rows if (r["model"], r["kept"], r["tool"]) == (model, kept, tool)]
                for tool in ("ours", "peer")
            )
            cells = [f"{100 * mean(r['after'] for r in side):.2f}" for side in (mine, other)]
            cells += [
                " / ".join(f"{100 * side[0][key]:.1f} %" for side in (mine, other))
                for key in ("macs", "params")
            ]
            lines.append(f"| {model} | {100 * kept:.0f} % | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def latency_table(rows: list[Row]) -> str:
    lines = [
        "| model | dense, ms | torchcompress | Torch-Pruning | torchcompress, round_to 8 "
        "| Torch-Pruning, round_to 8 |",
        "|---|---|---|---|---|---|",
    ]
    for r in rows:
        times = [r[key]["ms"] for key in ("dense", "ours_1", "peer_1", "ours_8", "peer_8")]
        lines.append(f"| {r['model']} | " + " | ".join(f"{t:.1f}" for t in times) + " |")
    return "\n".join(lines)


TABLES = {
    "planning": planning_table,
    "memory": memory_table,
    "accuracy": accuracy_table,
    "latency": latency_table,
}


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

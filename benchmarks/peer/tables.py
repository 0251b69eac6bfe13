"""What benchmarks/channels.py measured, as Markdown; needs no Torch-Pruning."""

from statistics import geometric_mean, mean
from typing import Any

Row = dict[str, Any]


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
    for model, kept in dict.fromkeys((r["model"], r["kept"]) for r in rows):
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

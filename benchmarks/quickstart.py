"""The quickstart over three seeds: accuracy, size and latency, against the goals that we set.

Run it from the checkout: python benchmarks/quickstart.py
It takes ten minutes on two cores and writes benchmarks/results/quickstart.json. With --table it
prints the table of the committed results instead.
"""

import json
import statistics
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torchcompress as tc

RESULTS = Path(__file__).parent / "results" / "quickstart.json"
SEEDS = (0, 1, 2)
SPEED_GOALS = {
    "threads=1,batch=1": 3.5,
    "threads=1,batch=8": 8.0,
    "threads=1,batch=1,image_size=224": 8.0,
}
SIZE_GOAL = 8.0
DROP_GOAL = 1.0
SECONDS_GOAL = 240


def run(seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        result = tc.run_recipe(tc.load_recipe("quickstart", [f"seed={seed}"]), out=folder)
        seconds = time.perf_counter() - start
    report = result.report
    return {
        "seed": seed,
        "seconds": round(seconds, 1),
        "gate_passed": result.passed,
        "before": asdict(report.before),
        "after": asdict(report.after),
        "stages": [
            {"kind": s.kind, "accuracy": s.accuracy, "seconds": round(s.seconds, 1)}
            for s in report.stages
        ],
        "speedup": {setting: asdict(ratio) for setting, ratio in report.speedup.items()},
        "environment": report.environment,
    }


def summary(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns one row for each goal: the mean over the seeds, the worst, and the goal."""

    def row(name: str, values: list[float], goal: float, *, largest: bool) -> dict[str, Any]:
        mean = statistics.mean(values)
        return {
            "name": name,
            "mean": mean,
            "worst": min(values) if largest else max(values),
            "goal": goal,
            "met": mean >= goal if largest else mean <= goal,
        }

    drops = [100 * (r["before"]["accuracy"] - r["after"]["accuracy"]) for r in runs]
    sizes = [r["before"]["file_bytes"] / r["after"]["file_bytes"] for r in runs]
    rows = [
        row("accuracy lost, points", drops, DROP_GOAL, largest=False),
        row("file, times smaller", sizes, SIZE_GOAL, largest=True),
    ]
    for setting, goal in SPEED_GOALS.items():
        ratios = [r["speedup"][setting]["value"] for r in runs]
        rows.append(row(f"{setting}, times faster", ratios, goal, largest=True))
    rows.append(
        row("whole run, seconds", [r["seconds"] for r in runs], SECONDS_GOAL, largest=False)
    )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Returns the summary as a Markdown table."""
    lines = ["| | mean of 3 seeds | worst | goal | met |", "|---|---|---|---|---|"]
    for r in rows:
        met = "yes" if r["met"] else "no"
        lines.append(
            f"| {r['name']} | {r['mean']:.2f} | {r['worst']:.2f} | {r['goal']:g} | {met} |"
        )
    return "\n".join(lines)


def main() -> None:
    if "--table" not in sys.argv:
        runs = [run(seed) for seed in SEEDS]
        text = json.dumps({"summary": summary(runs), "runs": runs}, indent=2)
        RESULTS.write_text(text + "\n", encoding="utf-8")
    print(table(json.loads(RESULTS.read_text(encoding="utf-8"))["summary"]))


if __name__ == "__main__":
    main()

"""Random architectures by the thousand: what each plan promises is checked, and counted.

Run it from the checkout: python benchmarks/random_architectures.py
It takes half an hour on two cores for 10,000 networks and writes
benchmarks/results/random_architectures.json. --seeds 0:600 runs fewer and writes nothing; each
failure is made as small as it can be and printed. --table prints the committed table.
"""

import argparse
import json
import os
import random
import re
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from random_networks import Description, draw_case, judge, shrunk

from torchcompress.metrics.environment import environment

RESULTS = Path(__file__).parent / "results" / "random_architectures.json"
COUNT = 10_000
CHUNK = 50


def outcome(seed: int) -> dict[str, Any]:
    """Returns what became of the network of one seed."""
    description, target, options = draw_case(random.Random(seed))

    def symptom(candidate: Description) -> str | None:
        try:
            judge(candidate, target, **options)
        except Exception as error:  # Whatever is raised is a failure to be listed.
            return f"{type(error).__name__}: {error}"
        return None

    try:
        result, plan = judge(description, target, **options)
    except Exception as error:
        first = f"{type(error).__name__}: {error}"
        small = shrunk(description, lambda d: _kind(symptom(d)) == _kind(first))
        return {
            "seed": seed,
            "outcome": "failed",
            "symptom": symptom(small) or first,
            "case": f"{target}, {options}",
            "network": repr(small),
        }
    steps = Counter(node.kind for node in description.nodes)
    row = {"seed": seed, "outcome": result, "steps": steps}
    if plan is not None:
        late = any("fails its trial" in why for why in plan.frozen.values())
        row |= {
            "left": plan.params[1] / plan.params[0],
            "frozen_share": plan.frozen_share,
            "inexact": bool(plan.inexact),
            "trial_froze": late,
        }
    return row


def _kind(symptom: str | None) -> str | None:
    """Returns a symptom without its numbers and names, so that alike ones are equal."""
    return symptom and re.sub(r"steps[\w.#\[\]]*|[\d.]+(e-\d+)?", "", symptom)[:80]


def _chunk(seeds: range) -> list[dict[str, Any]]:
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    return [outcome(seed) for seed in seeds]


def run(first: int, last: int, processes: int) -> Iterator[dict[str, Any]]:
    """Yields the outcomes of a range of seeds."""
    chunks = [range(start, min(start + CHUNK, last)) for start in range(first, last, CHUNK)]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for done, rows in enumerate(pool.map(_chunk, chunks), 1):
            failed = sum(row["outcome"] == "failed" for row in rows)
            print(f"{done * CHUNK:6} networks, {failed} of the last {CHUNK} failed", flush=True)
            yield from rows


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the counts of the outcomes."""
    planned = [row for row in rows if "left" in row]
    steps: Counter[str] = Counter()
    for row in rows:
        steps.update(row.get("steps", {}))
    return {
        "networks": len(rows),
        "outcomes": dict(Counter(row["outcome"] for row in rows).most_common()),
        "with_inexact_groups": sum(row["inexact"] for row in planned),
        "frozen_by_the_trial": sum(row["trial_froze"] for row in planned),
        "mean_parameters_left": sum(row["left"] for row in planned) / len(planned),
        "mean_frozen_share": sum(row["frozen_share"] for row in planned) / len(planned),
        "steps": dict(sorted(steps.items())),
        "failures": [row for row in rows if row["outcome"] == "failed"],
    }


def table(results: dict[str, Any]) -> str:
    """Returns the outcomes as a Markdown table."""
    lines = ["| outcome | networks |", "|---|---|"]
    names = {
        "exact": "pruned, equal to the independent reference in float64",
        "inexact": "pruned, equal by the package's own trial (a statistic over channels)",
        "failed": "failed",
    }
    outcomes = {"failed": 0, **results["outcomes"]}
    for name, count in sorted(outcomes.items(), key=lambda item: -item[1]):
        lines.append(f"| {names.get(name, name)} | {count:,} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", help="a range such as 0:600; nothing is written")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if options.table:
        print(table(json.loads(RESULTS.read_text(encoding="utf-8"))))
        return
    first, last = map(int, (options.seeds or f"0:{COUNT}").split(":"))
    start = time.perf_counter()
    results = summary(list(run(first, last, options.processes)))
    results["seconds"] = round(time.perf_counter() - start)
    results["environment"] = environment()
    for failure in results["failures"]:
        print(
            *(f"{key}: {failure[key]}" for key in ("seed", "case", "symptom", "network")),
            sep="\n  ",
        )
    if options.seeds is None:
        RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()

"""Every torchvision model, pruned to 75, 50 and 25 % of its channels and to half of its MACs.

Run it from the checkout: python benchmarks/zoo.py
Each model runs in a process of its own and is written to benchmarks/results/zoo.json as soon as it
is done; models that are there already are skipped unless --again. --models takes globs. --table
prints the committed results as Markdown.
"""

import argparse
import copy
import json
import time
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from isolated import call_isolated
from torch import Tensor, nn
from torchvision_zoo import ZOO

from torchcompress import Target
from torchcompress.core.errors import CompressError
from torchcompress.core.inputs import Inputs, call, tensors_in
from torchcompress.metrics.environment import environment
from torchcompress.pruning import PruningPlan, plan_channels

RESULTS = Path(__file__).parent / "results" / "zoo.json"
PEER_RESULTS = Path(__file__).parent / "results" / "channels.json"
TARGETS = (
    Target(channels=0.75),
    Target(channels=0.5),
    Target(channels=0.25),
    Target(macs=0.5),
)
SECONDS = 1800

Row = dict[str, Any]


def sweep(model: str) -> Row:
    """Prunes a model to each target and checks what is left of it.

    Returns:
        Its prunable share, the seconds of the process to plan half of its MACs without the trial,
        and for each target what was measured or what failed.
    """
    torch.set_num_threads(1)
    net, x = ZOO[model].build(), ZOO[model].x
    start = time.process_time()
    plan_channels(net, x, TARGETS[-1], prove=False)
    planning = time.process_time() - start
    targets = {str(target): _attempt(net, x, target) for target in TARGETS}
    shares = [cut.pop("prunable_share") for cut in targets.values() if "prunable_share" in cut]
    return {
        "prunable_share": max(shares, default=None),
        "planning_seconds": round(planning, 2),
        "targets": targets,
    }


def _attempt(net: nn.Module, x: Inputs, target: Target) -> Row:
    start = time.perf_counter()
    try:
        plan = plan_channels(net, x, target)
        seconds = time.perf_counter() - start
        check(net, plan, x)
    except (CompressError, AssertionError) as error:
        return {"failure": f"{type(error).__name__}: {error}"}
    return {
        "seconds": round(seconds, 2),
        "macs": plan.macs[1] / plan.macs[0],
        "params": plan.params[1] / plan.params[0],
        "difference": plan.difference,
        "prunable_share": 1 - plan.frozen_share,
        "groups": len(plan.groups),
        "inexact": len(plan.inexact),
        "untested": len(plan.untested),
        "frozen_by_the_trial": sum("fails its trial" in why for why in plan.frozen.values()),
    }


def check(net: nn.Module, plan: PruningPlan, x: Inputs) -> None:
    """Checks that the cut model runs forward and backward and that its output is formed as before.

    How many boxes a detector finds is left open.

    Raises:
        AssertionError: It does not.
    """
    assert plan.removed, "nothing was pruned without a word"
    assert plan.difference is not None, "the trial did not run"
    quantity, _, value = plan.target.partition("=")
    if quantity == "macs":
        assert plan.macs[1] <= float(value) * plan.macs[0], "the target is missed"
    pruned = plan.apply(net)
    outputs = [dict(tensors_in(_run(copy.deepcopy(m), x))) for m in (net, pruned)]
    forms = [{name: _form(t, x) for name, t in output.items()} for output in outputs]
    assert forms[0] == forms[1], f"the output was {forms[0]} and is {forms[1]}"
    found = [t for t in outputs[1].values() if t.is_floating_point()]
    assert all(torch.isfinite(t).all() for t in found), "the output is not finite"
    _backward(pruned, x)


def _form(tensor: Tensor, x: Inputs) -> tuple[Any, ...]:
    counted = isinstance(x, tuple)
    return (tensor.dtype, *tensor.shape[int(counted) :])


def _run(model: nn.Module, x: Inputs) -> Any:
    with torch.no_grad():
        return call(model, x)


def _backward(model: nn.Module, x: Inputs) -> None:
    outputs = [t for _, t in tensors_in(call(model, x)) if t.requires_grad and t.numel()]
    torch.stack([t.float().mean() for t in outputs]).sum().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients, "no gradient reaches a parameter"
    assert all(torch.isfinite(g).all() for g in gradients), "a gradient is not finite"


def failures(row: Row) -> list[str]:
    """Returns what failed for one model."""
    if "error" in row:
        return [row["error"]]
    return [
        f"{target}: {cut['failure']}" for target, cut in row["targets"].items() if "failure" in cut
    ]


def table(models: dict[str, Row], peer_shares: dict[str, float]) -> str:
    """Returns the results as a Markdown table.

    Args:
        models: What `sweep` returned, by model.
        peer_shares: Torch-Pruning's prunable share of the models that it manages.
    """
    lines = [
        "| model | prunable | Torch-Pruning | MACs left at 75 / 50 / 25 % of channels "
        "| at half MACs | largest difference | planning, s | slowest plan with its trial, s "
        "| inexact groups | failures |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in models.items():
        cuts = [cut for cut in row.get("targets", {}).values() if "failure" not in cut]
        share = row.get("prunable_share")
        peer = peer_shares.get(name)
        left = [
            f"{100 * cut['macs']:.1f}" if (cut := row["targets"][str(t)]).get("macs") else "-"
            for t in (TARGETS if "targets" in row else ())
        ]
        cells = [
            name,
            "-" if share is None else f"{100 * share:.1f} %",
            "-" if peer is None else f"{100 * peer:.1f} %",
            " / ".join(left[:3]),
            "".join(left[3:]),
            f"{max((cut['difference'] for cut in cuts), default=float('nan')):.0e}",
            f"{row.get('planning_seconds', float('nan')):.1f}",
            f"{max((cut['seconds'] for cut in cuts), default=float('nan')):.1f}",
            str(max((cut["inexact"] for cut in cuts), default=0)),
            str(len(failures(row))),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def read_peer_shares() -> dict[str, float]:
    """Returns Torch-Pruning's shares from the results of benchmarks/channels.py."""
    if not PEER_RESULTS.is_file():
        return {}
    planning = json.loads(PEER_RESULTS.read_text(encoding="utf-8")).get("planning", {"rows": []})
    return {r["model"]: r["peer_share"] for r in planning["rows"] if "peer_share" in r}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["*"], help="globs")
    parser.add_argument("--again", action="store_true", help="also models that are done")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    models: dict[str, Row] = {}
    if RESULTS.is_file():
        models = json.loads(RESULTS.read_text(encoding="utf-8"))["models"]
    if options.table:
        print(table(models, read_peer_shares()))
        return
    for name in ZOO:
        wanted = any(fnmatchcase(name, glob) for glob in options.models)
        if not wanted or (name in models and not options.again):
            continue
        models[name] = call_isolated("zoo:sweep", timeout=SECONDS, model=name)
        kept = {name: models[name] for name in ZOO if name in models}
        text = json.dumps({"models": kept, "environment": environment()}, indent=2)
        RESULTS.write_text(text + "\n", encoding="utf-8")
        print(name, models[name]["wall_seconds"], *failures(models[name]), sep="  ", flush=True)


if __name__ == "__main__":
    main()

"""How long planning takes, how much memory, and how much of a model it can prune."""

import copy
import ctypes
import gc
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision_zoo import ZOO

from peer import torch_pruning_runs as peer
from torchcompress import Target
from torchcompress.core.inputs import call
from torchcompress.pruning import plan_channels

ROUNDS = 5
HALF = Target(channels=0.5)
MIB = 1 << 20


def time_planning(model: str, with_peer: bool) -> dict[str, Any]:
    """Times planning half of the channels of each layer, in turns, best of five.

    It is the time of the process on one thread, which other work on the machine does not lengthen.

    For Torch-Pruning it is the building of its dependency graph and the choice of the channels of
    every group; for torchcompress `plan_channels` without the trial, then with it.
    """
    torch.set_num_threads(1)
    net, x = ZOO[model].build(), ZOO[model].x
    runs: dict[str, Callable[[], object]] = {
        "ours": lambda: plan_channels(net, x, HALF, prove=False),
        "ours_with_trial": lambda: plan_channels(net, x, HALF),
    }
    if with_peer:
        ignored = peer.output_layers(net, x)
        cut = peer.pruned(net, x, 0.5, ignored=ignored, scope="layer", round_to=None)
        if not peer.still_works(net, cut, x):
            raise RuntimeError("the output has another shape")
        runs["peer"] = lambda: peer.plan(net, x, 0.5, ignored)
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(ROUNDS):
        for name, run in runs.items():
            gc.collect()  # Neither pays for what another left.
            start = time.process_time()
            run()
            best[name] = min(best[name], time.process_time() - start)
    return {f"{name}_seconds": seconds for name, seconds in best.items()}


def measure_share(model: str, with_peer: bool) -> dict[str, Any]:
    """Returns the share of the parameters that some plan could remove.

    For Torch-Pruning these are the parameters in a slice of any of its groups, where a model cut
    by half of its channels still runs.
    """
    net, x = ZOO[model].build(), ZOO[model].x
    plan = plan_channels(net, x, HALF, prove=False)
    shares = {"ours_share": 1 - plan.frozen_share}
    if with_peer:
        ignored = peer.output_layers(net, x)
        cut = peer.pruned(net, x, 0.5, ignored=ignored, scope="layer", round_to=None)
        if peer.still_works(net, cut, x):
            shares["peer_share"] = peer.prunable_share(copy.deepcopy(net), x, ignored)
    return shares


def measure_memory(model: str, tool: str) -> dict[str, Any]:
    """Returns the largest resident memory of planning, beyond what was there before.

    Args:
        model: A name of torchvision.
        tool: `ours`, `ours_with_trial` or `peer`.
    """
    torch.set_num_threads(1)
    small, image = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1)), torch.rand(1, 3, 4, 4)
    plan_channels(small, image, HALF)  # What a first call loads is no part of a plan.
    peer.plan(small, image, 0.5, ["1"])
    net, x = ZOO[model].build(), ZOO[model].x
    ignored = peer.output_layers(net, x)
    size = sum(p.numel() * p.element_size() for p in net.parameters()) / MIB
    with torch.no_grad():
        forward = _peak(lambda: call(net, x))
    runs: dict[str, Callable[[], object]] = {
        "ours": lambda: plan_channels(net, x, HALF, prove=False),
        "ours_with_trial": lambda: plan_channels(net, x, HALF),
        "peer": lambda: peer.plan(net, x, 0.5, ignored),
    }
    return {"model_mib": size, "forward_mib": forward, "plan_mib": _peak(runs[tool])}


def _peak(run: Callable[[], object]) -> float:
    """Returns how far a function raises the resident memory, in MiB; on Linux."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _status("VmRSS")
    run()
    return (_status("VmHWM") - before) / 1024


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    raise KeyError(field)

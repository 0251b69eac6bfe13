"""int8 on torchvision's models against other tools: what runs, how fast, and how close to float.

Run it from the checkout: python benchmarks/int8.py [--models resnet18 vit_b_16]
Each model has random weights and batch norm statistics of the images that calibrate it; it runs in
a process of its own, in which every tool's model is timed in turns with the others (the lowest
decile of the calls). SQNR is that of the logits over held-out images, against the float model. Rows
go to benchmarks/results/int8.json as soon as they are measured. --table prints the tables.
"""

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import torch
from int8_peers import Run, Segmenter, first_tensor, fx_mode, onnx_runtime, pt2e
from isolated import call_isolated
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import get_model

import torchcompress as tc
from torchcompress.core.files import write_text
from torchcompress.metrics.environment import environment
from torchcompress.metrics.latency import thread_count, time_in_turns

RESULTS = Path(__file__).parent / "results" / "int8.json"
MODELS = (
    "alexnet", "vgg11", "squeezenet1_1", "resnet18", "resnet50", "resnext50_32x4d",
    "wide_resnet50_2", "densenet121", "googlenet", "inception_v3", "mobilenet_v2",
    "mobilenet_v3_small", "mnasnet0_5", "shufflenet_v2_x0_5", "efficientnet_b0",
    "efficientnet_v2_s", "regnet_x_400mf", "regnet_y_400mf", "convnext_tiny", "vit_b_16", "swin_t",
    "swin_v2_t", "maxvit_t", "lraspp_mobilenet_v3_large", "ssdlite320_mobilenet_v3_large",
)  # fmt: skip
SIZES = {"inception_v3": 299, "ssdlite320_mobilenet_v3_large": 320, "swin_v2_t": 256}
SETTINGS = ((1, 1), (1, 8), (2, 1), (2, 8))
"""Threads and batch size."""
PEERS = ("fx", "pt2e", "ort")
ROUNDS = 8
BATCH = 8
SECONDS = 3600.0

Row = dict[str, Any]


def images(count: int, size: int, seed: int) -> list[Tensor]:
    """Returns batches of images: smooth shapes under noise, about as bright as normalized ones."""
    random = torch.Generator().manual_seed(seed)

    def draw(scale: int) -> Tensor:
        coarse = torch.randn(
            BATCH, 3, max(size // scale, 2), max(size // scale, 2), generator=random
        )
        return F.interpolate(coarse, (size, size), mode="bilinear")

    return [draw(32) + 0.5 * draw(8) + 0.2 * draw(1) for _ in range(count // BATCH)]


def build(name: str, calibration: list[Tensor]) -> nn.Module:
    """Returns a torchvision model with random weights that say something.

    Layers that torchvision sets to zero at first get small weights, and batch norms the statistics
    of the calibration images; otherwise the logits of most models would be next to nothing.
    """
    torch.manual_seed(0)
    options: dict[str, Any] = {"weights": None}
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = True
    if "lraspp" in name or "ssdlite" in name:
        options["weights_backbone"] = None
    model = get_model(name, **options)
    for parameter in model.parameters():
        if parameter.dim() > 1 and not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if "ssdlite" not in name and norms:
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = None
        model.train()
        with torch.no_grad():
            for batch in calibration:
                model(batch)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    return model.eval()


def sqnr(wanted: Tensor, got: Tensor) -> float:
    error = (wanted.double() - got.double()).square().sum()
    return 10 * math.log10(float(wanted.double().square().sum() / error.clamp(min=1e-300)))


def measure(name: str, peers: list[str]) -> Row:
    """Returns all that is measured of one model."""
    torch.set_num_threads(1)
    size = SIZES.get(name, 224)
    calibration, held_out = images(32, size, 1), images(16, size, 2)
    detector = "ssdlite" in name
    model = build(name, calibration)
    row: Row = {"model": name, "tools": {}}
    start = time.perf_counter()
    data = [([*batch],) for batch in calibration] if detector else calibration
    int8 = tc.quantize(model, data, forward=(lambda m, b: m(*b)) if detector else None)
    row["quantize_seconds"] = round(time.perf_counter() - start, 1)
    row["mac_share"], row["float_reasons"] = mac_share(int8)
    if detector:
        runs: dict[str, Callable[[Tensor], Any]] = {
            "float": lambda x: model(list(x)), "ours": lambda x: int8(list(x))
        }  # fmt: skip
        row["tools"] = {tool: {} for tool in runs}
        time_all(row, dict.fromkeys(SETTINGS, runs), size, channels_last=False)
        return row
    plain = Segmenter(model).eval() if "lraspp" in name else model
    with torch.no_grad():
        wanted = torch.cat([plain(batch) for batch in held_out])
    made: dict[tuple[int, int], dict[str, Callable[[Tensor], Any]]] = {s: {} for s in SETTINGS}
    for tool in ("ours", *peers):
        note: Row = {}
        row["tools"][tool] = note
        start = time.perf_counter()
        try:
            found = make(tool, int8, plain, calibration)
            with torch.no_grad():
                got = [first_tensor(run_batch(found, batch)) for batch in held_out]
        except Exception as error:  # A peer fails in any way; that is a result.
            note["error"] = f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"
            continue
        note["seconds"] = round(time.perf_counter() - start, 1)
        note["sqnr_db"] = round(sqnr(wanted, torch.cat(got)), 2)
        for setting in SETTINGS:
            made[setting][tool] = found[setting]
    last = plain.to(memory_format=torch.channels_last)
    row["tools"]["float"] = {}
    for setting in SETTINGS:
        made[setting]["float"] = last
    time_all(row, made, size)
    return row


def make(
    tool: str, int8: nn.Module, plain: nn.Module, calibration: list[Tensor]
) -> dict[tuple[int, int], Run]:
    """Returns a tool's model for each setting."""
    if tool == "ours":
        return dict.fromkeys(SETTINGS, int8)
    if tool == "fx":
        return dict.fromkeys(SETTINGS, fx_mode(plain, calibration))
    if tool == "pt2e":
        by_batch = {batch: pt2e(plain, calibration, batch) for batch in {b for _, b in SETTINGS}}
        return {(threads, batch): by_batch[batch] for threads, batch in SETTINGS}
    by_threads = {
        threads: onnx_runtime(plain, calibration, threads) for threads in {t for t, _ in SETTINGS}
    }
    return {(threads, batch): by_threads[threads] for threads, batch in SETTINGS}


def run_batch(runs: dict[tuple[int, int], Run], batch: Tensor) -> Any:
    return runs[1, BATCH](batch)


def mac_share(int8: nn.Module) -> tuple[float, dict[str, int]]:
    """Returns the share of MACs in int8, and how many layers stayed float for which reason."""
    rows = int8.table()  # pyright: ignore[reportCallIssue]
    whole = sum(row.macs or 0 for row in rows)
    mine = sum(row.macs or 0 for row in rows if row.precision == "int8")
    reasons: dict[str, int] = {}
    for row in rows:
        if row.precision != "int8":
            reasons[row.reason] = reasons.get(row.reason, 0) + 1
    return round(mine / max(whole, 1), 4), reasons


def time_all(
    row: Row,
    made: dict[tuple[int, int], dict[str, Callable[[Tensor], Any]]],
    size: int,
    *,
    channels_last: bool = True,
) -> None:
    for threads, batch in SETTINGS:
        x = torch.cat(images(BATCH, size, 3))[:batch]
        layouts = dict.fromkeys(made[threads, batch], x)
        if channels_last:
            layouts = {
                tool: each if tool == "ort" else each.contiguous(memory_format=torch.channels_last)
                for tool, each in layouts.items()
            }
        runs = {
            tool: lambda run=run, x=layouts[tool]: run(x)
            for tool, run in made[threads, batch].items()
        }
        with thread_count(threads), torch.inference_mode():
            timings = time_in_turns(runs, rounds=ROUNDS)
        for tool in runs:
            key = f"threads={threads},batch={batch}"
            milliseconds = row["tools"][tool].setdefault("milliseconds", {})
            milliseconds[key] = round(timings.milliseconds(tool), 3)


def ratio(row: Row, tool: str, key: str) -> float | None:
    """Returns how many times as long as ours a tool takes."""
    ours, theirs = (
        row["tools"].get(t, {}).get("milliseconds", {}).get(key) for t in ("ours", tool)
    )
    return None if ours is None or theirs is None else theirs / ours


def table(rows: list[Row], threads: int = 1) -> str:
    tools = ("float", *PEERS)
    heads = [f"{tool}, batch {batch}" for batch in (1, 8) for tool in tools]
    lines = [f"| model | ours, ms | {' | '.join(heads)} | MACs in int8 |", "|---" * 11 + "|"]
    for row in rows:
        ms = row["tools"]["ours"]["milliseconds"]
        keys = [f"threads={threads},batch={batch}" for batch in (1, 8)]
        cells = [_times(ratio(row, tool, key)) for key in keys for tool in tools]
        own = " / ".join(f"{ms[key]:.2f}" for key in keys)
        lines.append(
            f"| {row['model']} | {own} | {' | '.join(cells)} | {100 * row['mac_share']:.1f} % |"
        )
    means = []
    for batch in (1, 8):
        for tool in tools:
            found = [ratio(row, tool, f"threads={threads},batch={batch}") for row in rows]
            known = [value for value in found if value is not None]
            means.append(_times(geometric_mean(known) if known else None))
    lines.append(f"| geometric mean | | {' | '.join(means)} | |")
    return "\n".join(lines)


def sqnr_table(rows: list[Row]) -> str:
    tools = ("ours", *PEERS)
    lines = [f"| model | {' | '.join(tools)} |", "|---" * 5 + "|"]
    for row in rows:
        found = [row["tools"].get(tool, {}).get("sqnr_db") for tool in tools]
        if any(value is not None for value in found):
            cells = ["fails" if value is None else f"{value:.1f}" for value in found]
            lines.append(f"| {row['model']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _times(value: float | None) -> str:
    return "fails" if value is None else f"{value:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="*", default=MODELS)
    parser.add_argument("--peers", nargs="*", default=PEERS)
    parser.add_argument("--again", action="store_true", help="measure what is there, too")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    found: dict[str, Any] = {"rows": []}
    if RESULTS.is_file():
        found = json.loads(RESULTS.read_text(encoding="utf-8"))
    rows = {row["model"]: row for row in found["rows"]}
    for name in () if options.table else options.models:
        if name in rows and not options.again:
            continue
        row = call_isolated("int8:measure", timeout=SECONDS, name=name, peers=list(options.peers))
        print(name, json.dumps(row), flush=True)
        if "error" in row:
            continue
        rows[name] = row
        ordered = [rows[each] for each in MODELS if each in rows]
        found = {"environment": environment(), "rows": ordered}
        write_text(RESULTS, json.dumps(found, indent=1) + "\n")
    print(table(found["rows"]), sqnr_table(found["rows"]), sep="\n\n")


if __name__ == "__main__":
    main()

"""Plain sentences about what did not get better."""

from torchcompress.metrics.latency import Ratio
from torchcompress.report.record import Report
from torchcompress.report.words import (
    count,
    megabytes,
    milliseconds,
    prunes_weights,
    setting_words,
    zeros,
)

_SAME = 0.005


def notes(report: Report) -> list[str]:
    """Returns one sentence for everything that did not get smaller or faster.

    Args:
        report: A run with at least one finished stage.
    """
    before, after = report.before, report.after
    costs = (
        ("The file", before.file_bytes, after.file_bytes, megabytes),
        ("The number of parameters", before.params, after.params, count),
        ("The number of MACs", before.macs, after.macs, count),
    )
    found = []
    for name, old, new, words in costs:
        if new > old * (1 + _SAME):
            found.append(f"{name} grew: {words(old)} before, {words(new)} after.")
        elif new > old * (1 - _SAME):
            found.append(f"{name} did not get smaller: {words(old)}.")
    if prunes_weights(report):
        found.append(_zeros(report))
    return found + [
        _latency(setting, report, ratio)
        for setting, ratio in report.speedup.items()
        if ratio.low <= 1
    ]


def _zeros(report: Report) -> str:
    """Returns what zeros in weights have brought and what not."""
    sizes = [report.before.file_bytes, *(stage.file_bytes for stage in report.stages)]
    place = next(i for i, s in enumerate(report.stages) if s.kind == "prune.weights")
    old, new = sizes[place], sizes[place + 1]
    shrank = (
        f"what got smaller with them is the file: {megabytes(old)} before, {megabytes(new)} after"
    )
    return (
        f"{zeros(report.after)} of the parameters are zero, which brings no speed on a CPU, where "
        f"they are multiplied like other numbers; {shrank if new < old else 'nothing shrank'}."
    )


def _latency(setting: str, report: Report, ratio: Ratio) -> str:
    old, new = report.before.latency_ms[setting], report.after.latency_ms[setting]
    place = setting_words(setting)
    times = f"{milliseconds(old)} before, {milliseconds(new)} after"
    if ratio.high < 1:
        return f"It got slower with {place}: {times}."
    return f"It is not measurably faster with {place}: {times}."

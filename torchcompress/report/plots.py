"""The report's plots, as SVG that takes its colours and its font from the page."""

import io
import re
from collections.abc import Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from torchcompress.quantization import Sensitivity
from torchcompress.report.record import Report
from torchcompress.report.summary import stage_names
from torchcompress.report.words import milliseconds

_INK, _MUTED, _LINE, _ACCENT, _SOFT = "#010101", "#020202", "#030303", "#040404", "#050505"
_VARIABLES = {
    _INK: "var(--ink)",
    _MUTED: "var(--muted)",
    _LINE: "var(--line)",
    _ACCENT: "var(--accent)",
    _SOFT: "var(--soft)",
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.edgecolor": _LINE,
    "axes.labelcolor": _MUTED,
    "text.color": _INK,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": _LINE,
    "grid.linewidth": 0.7,
}
_WIDTH = 5.6


def accuracy_plot(report: Report) -> str:
    """Returns accuracy against file size, one point a stage, as an SVG element.

    Args:
        report: A run with at least one finished stage.
    """
    models = [report.before, *report.stages]
    sizes = [m.file_bytes / 1e6 for m in models]
    accuracies = [100 * (m.accuracy or 0) for m in models]
    with rc_context({**_STYLE, "svg.hashsalt": "accuracy"}):
        figure = Figure(figsize=(_WIDTH, 3.2), layout="constrained")
        axes = figure.add_subplot()
        axes.plot(sizes, accuracies, color=_ACCENT, linewidth=1.5)
        axes.scatter(sizes, accuracies, s=45, color=_ACCENT, zorder=3)
        for size, accuracy, label in zip(sizes, accuracies, _labels(report), strict=True):
            axes.annotate(
                label,
                (size, accuracy),
                xytext=(0, 9 if accuracy > min(accuracies) else -16),
                textcoords="offset points",
                ha="left" if size < max(sizes) / 2 else "right",
            )
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("file, MB")
        axes.set_ylabel("accuracy, %")
        axes.margins(x=0.12, y=0.2)
        axes.grid()
        return _svg(figure)


def latency_plot(report: Report, setting: str) -> str:
    """Returns the latency after each stage in one setting, as an SVG element.

    Args:
        report: A run with at least one finished stage.
        setting: A key of the latencies.
    """
    labels = _labels(report)
    times = [report.before.latency_ms[setting], *(s.latency_ms[setting] for s in report.stages)]
    ratios = ["", *(f" ({s.speedup[setting].value:.2f}x)" for s in report.stages)]
    with rc_context({**_STYLE, "svg.hashsalt": setting}):
        figure = Figure(figsize=(_WIDTH, 0.5 + 0.36 * len(labels)), layout="constrained")
        axes = figure.add_subplot()
        colors = [_SOFT] + [_ACCENT] * len(report.stages)
        axes.barh(labels, times, color=colors, height=0.62)
        _values(axes, times, [milliseconds(t) + r for t, r in zip(times, ratios, strict=True)])
        axes.invert_yaxis()
        axes.set_xlim(0, 1.5 * max(times))
        axes.xaxis.set_visible(False)
        axes.spines["bottom"].set_visible(False)
        return _svg(figure)


def sensitivity_plot(found: Sensitivity, most: int = 30) -> str:
    """Returns the noise of each layer when it alone is int8, the most sensitive first.

    Args:
        found: What `tc.sensitivity` returned.
        most: Layers to show.
    """
    rows = found.rows[:most]
    noises = [100 * row.noise**0.5 for row in rows]
    with rc_context({**_STYLE, "svg.hashsalt": "sensitivity"}):
        figure = Figure(figsize=(_WIDTH, 0.5 + 0.24 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        axes.barh(range(len(rows)), noises, color=_ACCENT, height=0.62)
        axes.set_yticks(range(len(rows)), [row.name for row in rows])
        _values(axes, noises, [f"{noise:.2g} %" for noise in noises])
        axes.invert_yaxis()
        axes.set_xlim(0, 1.3 * max(noises) or 1)
        axes.set_xlabel("error of the outputs")
        axes.xaxis.set_ticks([])
        axes.spines["bottom"].set_visible(False)
        return _svg(figure)


def _labels(report: Report) -> list[str]:
    return ["input", *stage_names(report)]


def _values(axes: Axes, places: Sequence[float], texts: Sequence[str]) -> None:
    for row, (place, text) in enumerate(zip(places, texts, strict=True)):
        axes.annotate(text, (place, row), xytext=(6, 0), textcoords="offset points", va="center")


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", text)
    for color, variable in _VARIABLES.items():
        text = text.replace(color, variable)
    return text

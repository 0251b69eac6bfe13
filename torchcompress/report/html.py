"""The report as one HTML file that needs no network."""

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from torchcompress.report.notes import notes
from torchcompress.report.plots import accuracy_plot, latency_plot
from torchcompress.report.record import Cell, Report
from torchcompress.report.summary import stage_columns, stage_rows, summary_rows
from torchcompress.report.words import count, gate_words, setting_words


def report_to_html(report: Report) -> str:
    """Returns a page that is readable in light and dark, on a phone and on paper.

    Args:
        report: A run with at least one finished stage.
    """
    environment = Environment(
        loader=PackageLoader("torchcompress.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = _cell
    environment.filters["side"] = _side
    return environment.get_template("report.html").render(
        report=report,
        rows=summary_rows(report),
        stage_columns=stage_columns(report),
        stage_rows=stage_rows(report),
        notes=notes(report),
        missed=[gate_words(c) for c in report.gate.checks if not c.passed] if report.gate else [],
        accuracy_plot=accuracy_plot(report),
        latency_plots=[(setting_words(s), latency_plot(report, s)) for s in report.speedup],
    )


def _side(rows: list[list[Cell]], column: int) -> Markup:
    """Returns the attribute that aligns a column of words to the left."""
    words = any(isinstance(row[column], str) for row in rows)
    return Markup(' class="text"' if words else "")


def _cell(value: Cell) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return count(value) if isinstance(value, int) and value >= 100_000 else str(value)

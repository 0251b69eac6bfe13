"""The report on a terminal: plain text, no colours."""

from collections.abc import Sequence

from torchcompress.report.notes import notes
from torchcompress.report.record import Report
from torchcompress.report.summary import stage_columns, stage_rows, summary_rows
from torchcompress.report.words import gate_words


def report_to_text(report: Report) -> str:
    """Returns the summary, the stages, what did not get better, and the gate.

    Args:
        report: A run with at least one finished stage.
    """
    rows = [
        [r.name, r.before, r.after, r.change, _verdict(r.gate, r.passed)]
        for r in summary_rows(report)
    ]
    parts = [
        f"{report.name}: {report.arch} on {report.dataset}",
        text_table(["", "before", "after", "change", "gate"], rows),
        text_table(stage_columns(report), stage_rows(report)),
    ]
    sentences = notes(report)
    if sentences:
        parts.append("\n".join(sentences))
    parts.append(_gate_lines(report))
    return "\n\n".join(parts)


def text_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns rows under their heads, the first column left-aligned, the others right-aligned.

    Args:
        columns: The heads.
        rows: As many cells as there are heads.
    """
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    lines = [columns, ["-" * width for width in widths], *rows]
    return "\n".join(_line(line, widths) for line in lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first = cells[0].ljust(widths[0])
    rest = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
    return "  ".join((first, *rest)).rstrip()


def _verdict(gate: str, passed: bool | None) -> str:
    return gate if passed is None else f"{gate}: {'passed' if passed else 'MISSED'}"


def _gate_lines(report: Report) -> str:
    if report.gate is None:
        return "gate: not judged, the run has not finished"
    if not report.gate.checks:
        return "gate: nothing was asked"
    missed = [gate_words(check) for check in report.gate.checks if not check.passed]
    lines = [f"gate: MISSED, asked {asked}, got {reached}" for asked, reached in missed]
    return "\n".join(lines) or "gate: passed"

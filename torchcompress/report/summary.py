"""The rows that every form of the report shows first."""

from dataclasses import dataclass

from torchcompress.metrics.measure import Measurement
from torchcompress.report.record import GateCheck, Report
from torchcompress.report.words import (
    count,
    faster,
    gate_words,
    megabytes,
    milliseconds,
    percent,
    points,
    prunes_weights,
    setting_words,
    smaller,
    zeros,
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One quantity before and after, in words.

    Args:
        name: The quantity.
        before: Its value before.
        after: Its value after.
        change: The difference or the ratio.
        check: The limit that it was held against, if any.
    """

    name: str
    before: str
    after: str
    change: str
    check: GateCheck | None = None

    @property
    def gate(self) -> str:
        """What was asked of it, empty where nothing was."""
        return gate_words(self.check)[0] if self.check else ""

    @property
    def passed(self) -> bool | None:
        """Whether that was reached, None where nothing was asked."""
        return self.check.passed if self.check else None


def summary_rows(report: Report) -> list[Row]:
    """Returns accuracy, file, MACs and latency first, then the rest.

    Args:
        report: A run with at least one finished stage.
    """
    before, after = report.before, report.after
    headline, *others = report.speedup
    rows = [
        Row(
            name="accuracy",
            before=percent(before.accuracy),
            after=percent(after.accuracy),
            change=points(before.accuracy, after.accuracy),
            check=_check(report, "max_accuracy_drop"),
        ),
        Row(
            name="file",
            before=megabytes(before.file_bytes),
            after=megabytes(after.file_bytes),
            change=smaller(before.file_bytes, after.file_bytes),
            check=_check(report, "max_file_mb"),
        ),
        _count_row("MACs", before.macs, after.macs),
        _latency_row(report, headline, _check(report, "min_speedup")),
        *(_latency_row(report, setting) for setting in others),
        _count_row("parameters", before.params, after.params),
    ]
    if prunes_weights(report):
        change = "no faster on a CPU"
        rows.append(Row(name="zeros", before=zeros(before), after=zeros(after), change=change))
    return rows


def stage_columns(report: Report) -> list[str]:
    """Returns the heads of `stage_rows`: the input, then each finished stage."""
    return ["", "input", *stage_names(report)]


def stage_names(report: Report) -> list[str]:
    """Returns the numbered kinds of the finished stages: `1. prune.channels`."""
    return [f"{i}. {stage.kind}" for i, stage in enumerate(report.stages, start=1)]


def stage_rows(report: Report) -> list[list[str]]:
    """Returns one row for each quantity, with its value in the input and after each stage."""
    models: list[Measurement] = [report.before, *report.stages]
    rows = [
        ["accuracy", *(percent(m.accuracy) for m in models)],
        ["file", *(megabytes(m.file_bytes) for m in models)],
        ["MACs", *(count(m.macs) for m in models)],
        *(
            [f"latency, {setting_words(s)}", *(milliseconds(m.latency_ms[s]) for m in models)]
            for s in report.speedup
        ),
        ["parameters", *(count(m.params) for m in models)],
    ]
    return [*rows, ["zeros", *map(zeros, models)]] if prunes_weights(report) else rows


def _count_row(name: str, before: int, after: int) -> Row:
    return Row(name=name, before=count(before), after=count(after), change=smaller(before, after))


def _latency_row(report: Report, setting: str, check: GateCheck | None = None) -> Row:
    return Row(
        name=f"latency, {setting_words(setting)}",
        before=milliseconds(report.before.latency_ms[setting]),
        after=milliseconds(report.after.latency_ms[setting]),
        change=faster(report.speedup[setting]),
        check=check,
    )


def _check(report: Report, name: str) -> GateCheck | None:
    checks = report.gate.checks if report.gate else []
    return next((check for check in checks if check.name == name), None)

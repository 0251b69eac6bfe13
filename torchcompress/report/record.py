"""What a run found, as plain data: the content of `report.json`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from torchcompress.core.errors import ArtifactError
from torchcompress.metrics.latency import Ratio
from torchcompress.metrics.measure import Measurement

Cell = str | int | float | None
"""What a table's cell holds."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows about the layers of one stage.

    Args:
        title: What the rows show.
        columns: The heads of the columns.
        rows: One cell a column; None where there is nothing to say.
    """

    title: str
    columns: list[str]
    rows: list[list[Cell]]


@dataclass(frozen=True, kw_only=True)
class StageRecord(Measurement):
    """A finished stage: what the model was after it, in numbers.

    Args:
        kind: The kind of the stage.
        file: Name of the artifact that holds its model.
        seconds: How long the stage ran, its measurement left out.
        speedup: By setting, how many times the first model takes as long.
        tables: What happened to which layer.
    """

    kind: str
    file: str
    seconds: float
    speedup: dict[str, Ratio]
    tables: list[Table] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class GateCheck:
    """One limit and how it was met.

    Args:
        name: The key in the recipe.
        limit: What was asked.
        value: What was reached.
        passed: Whether that is enough.
    """

    name: str
    limit: float
    value: float
    passed: bool


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What was asked of a run.

    Args:
        passed: Whether every check passed.
        checks: One for each limit in the recipe.
    """

    passed: bool
    checks: list[GateCheck]


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that a run found.

    Args:
        name: The recipe.
        description: What the recipe is for, one line.
        arch: The architecture.
        dataset: The data set.
        seed: The seed.
        environment: Versions and hardware.
        before: The model as it entered; its latencies are those beside the last stage.
        after: The model after the last finished stage.
        stages: The finished stages.
        gate: None until every stage has finished.
    """

    name: str
    description: str
    arch: str
    dataset: str
    seed: int
    environment: dict[str, str]
    before: Measurement
    after: Measurement
    stages: list[StageRecord]
    gate: Gate | None = None

    @property
    def speedup(self) -> dict[str, Ratio]:
        """By setting, how many times the first model takes as long as the last."""
        return self.stages[-1].speedup if self.stages else {}


_REPORT = TypeAdapter(Report)


def report_to_json(report: Report) -> str:
    """Returns a report as JSON text."""
    return _REPORT.dump_json(report, indent=2).decode() + "\n"


def report_schema() -> dict[str, Any]:
    """Returns the JSON schema of `report.json`."""
    return _REPORT.json_schema()


def read_report(path: str | Path) -> Report:
    """Reads a `report.json`.

    Args:
        path: The file.

    Raises:
        ArtifactError: There is no such file, or it is not a report.
    """
    try:
        report = _REPORT.validate_json(Path(path).read_bytes())
    except OSError as error:
        raise ArtifactError(
            f"cannot be read ({error.strerror})",
            where=str(path),
            hint="give the folder of a finished run: torchcompress report runs/NAME",
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        raise ArtifactError(
            f"is not a report: {first['msg']} at {'.'.join(map(str, first['loc'])) or 'the top'}",
            where=str(path),
            hint="run the recipe again",
        ) from error
    _check_numbers(report, str(path))
    return report


def _check_numbers(report: Report, where: str) -> None:
    """Refuses a report that holds no finished stage, or numbers that no run can give."""
    models: list[Measurement] = [report.before, report.after, *report.stages]
    settings = report.speedup.keys()
    for model in models:
        accuracy = 0.0 if model.accuracy is None else model.accuracy
        sound = 0 <= accuracy <= 1 and min(model.file_bytes, model.params, model.macs) > 0
        sound = sound and 0 <= model.zeros <= model.params
        timed = all(model.latency_ms.get(setting, 0) > 0 for setting in settings)
        if not (report.stages and settings and sound and timed):
            raise ArtifactError(
                "is not the report of a run: stages are missing, or numbers are impossible",
                where=where,
                hint="run the recipe again",
            )

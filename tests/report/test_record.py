import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from torchcompress.core.errors import ArtifactError
from torchcompress.report.record import Report, read_report, report_schema, report_to_json

NUMBERS = {"accuracy", "file_bytes", "params", "macs", "latency_ms"}


def test_before_after_and_each_stage_hold_the_same_numbers(
    sample_report: Callable[..., Report],
) -> None:
    data = json.loads(report_to_json(sample_report()))
    for part in (data["before"], data["after"], *data["stages"]):
        assert part.keys() >= NUMBERS
        assert 0 <= part["accuracy"] <= 1
        assert part["latency_ms"].keys() == data["before"]["latency_ms"].keys()
    assert data["gate"]["passed"] is True
    assert {c["name"] for c in data["gate"]["checks"]} == {
        "max_accuracy_drop",
        "min_speedup",
        "max_file_mb",
    }


def test_the_schema_names_every_key(sample_report: Callable[..., Report]) -> None:
    schema = report_schema()
    data = json.loads(report_to_json(sample_report()))
    assert schema["properties"].keys() == data.keys()
    assert schema["$defs"]["StageRecord"]["properties"].keys() == data["stages"][0].keys()


def test_a_report_survives_its_file(sample_report: Callable[..., Report], tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(report_to_json(sample_report()))
    assert read_report(path) == sample_report()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"name": 3}', '{"name": "a"}'])
def test_what_is_not_a_report_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(ArtifactError, match="is not a report"):
        read_report(path)


@pytest.mark.parametrize(
    "change", [{"stages": []}, {"macs": 0}, {"accuracy": 2.0}, {"latency_ms": {}}], ids=str
)
def test_numbers_that_no_run_gives_are_refused(
    change: dict[str, Any], sample_report: Callable[..., Report], tmp_path: Path
) -> None:
    path = tmp_path / "report.json"
    found = json.loads(report_to_json(sample_report()))
    (found if "stages" in change else found["after"]).update(change)
    path.write_text(json.dumps(found))
    with pytest.raises(ArtifactError, match="not the report of a run"):
        read_report(path)


def test_a_missing_report_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="torchcompress report runs/NAME"):
        read_report(tmp_path / "report.json")

"""The tables of docs/benchmarks.md are those of the committed results."""

import json
import re
from pathlib import Path
from typing import Any

import artifact_coding
import pytest
import random_architectures
import training_free
import training_free_channels
import weights_in_loop
import zoo
from peer.tables import TABLES

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")


def results(name: str) -> Any:
    path = ROOT / "benchmarks" / "results" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))


def printed(part: str) -> str:
    if part == "zoo":
        return zoo.table(results("zoo")["models"], zoo.read_peer_shares())
    if part == "weights_in_loop":
        return weights_in_loop.table(results("weights_in_loop")["rows"])
    if part == "training_free":
        return training_free.tables(results("training_free")["rows"])
    if part == "training_free_channels":
        return training_free_channels.tables(results("training_free_channels"))
    if part == "random_architectures":
        return random_architectures.table(results("random_architectures"))
    if part == "artifact_coding":
        return artifact_coding.table(results("artifact_coding"))
    return TABLES[part](results("channels")[part]["rows"])


@pytest.mark.parametrize("part", re.findall(r"<!-- table: (\w+) -->", PAGE))
def test_a_table_is_that_of_the_results(part: str) -> None:
    shown = PAGE.partition(f"<!-- table: {part} -->\n")[2].partition("\n<!-- end -->")[0]
    assert shown == printed(part)


def test_every_artifact_is_near_its_bound_and_read_fast() -> None:
    for row in results("artifact_coding")["rows"]:
        assert row["coded_bytes"] < 1.15 * row["bound_bytes"], row["name"]
        assert row["megabytes_per_second"] >= 100, row["name"]

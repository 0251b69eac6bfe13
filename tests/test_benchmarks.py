"""The tables of docs/benchmarks.md are those of the committed results."""

import json
import re
from pathlib import Path

import pytest
from peer.tables import TABLES

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
RESULTS = ROOT / "benchmarks" / "results" / "channels.json"


@pytest.mark.parametrize("part", re.findall(r"<!-- table: (\w+) -->", PAGE))
def test_a_table_is_that_of_the_results(part: str) -> None:
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))[part]["rows"]
    shown = PAGE.partition(f"<!-- table: {part} -->\n")[2].partition("\n<!-- end -->")[0]
    assert shown == TABLES[part](rows)

"""The README's code runs, its recipe is sound, and its numbers are those of the benchmark."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from torchcompress.recipe import load_recipe

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_python_blocks_run_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    batches = [(torch.randn(8, 3, 32, 32), torch.randint(10, (8,))) for _ in range(3)]
    names: dict[str, Any] = {"train": batches, "val": batches, "calibration": batches}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), names)
    assert names["int8"](torch.randn(2, 3, 32, 32)).shape == (2, 10)
    assert len(names["result"].history) == 2
    assert (tmp_path / "model.tcz").stat().st_size < 8_000_000


def test_the_pages_run_from_top_to_bottom_and_print_what_they_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pages = sorted((ROOT / "docs").glob("*.md"))
    assert pages
    monkeypatch.chdir(tmp_path)
    for page in pages:
        torch.manual_seed(0)
        names: dict[str, Any] = {"__name__": page.stem}
        printed = ""
        text = page.read_text(encoding="utf-8")
        for language, block in re.findall(r"```(python|text)\n(.*?)```", text, re.DOTALL):
            if language == "python":
                exec(compile(block, page.name, "exec"), names)
                printed = capsys.readouterr().out
            else:
                assert block in printed


def test_the_recipe_block_is_a_sound_recipe(tmp_path: Path) -> None:
    (block,) = blocks("toml")
    path = tmp_path / "recipe.toml"
    path.write_text(block, encoding="utf-8")
    recipe = load_recipe(path)
    assert [stage.kind for stage in recipe.stage] == ["prune.channels", "distill", "quantize.ptq"]


def test_ci_calls_the_test_command() -> None:
    install, tests = (block.strip() for block in blocks("bash")[:2])
    assert install == "pip install -e . && torchcompress run quickstart"
    assert tests in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_the_numbers_are_those_of_the_committed_benchmark() -> None:
    results = ROOT / "benchmarks" / "results" / "quickstart.json"
    rows = json.loads(results.read_text(encoding="utf-8"))["summary"]
    shown = README.partition("<!-- table: quickstart -->")[2].partition("<!-- end -->")[0]
    lines = [line.strip("| ").split(" | ") for line in shown.strip().splitlines()[2:]]
    assert [line[:4] for line in lines] == [
        [row["name"], f"{row['mean']:.2f}", f"{row['worst']:.2f}", f"{row['goal']:g}"]
        for row in rows
    ]

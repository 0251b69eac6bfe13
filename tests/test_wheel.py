"""What a user installs: the wheel holds all that the quickstart needs."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        return {info.filename: info.file_size for info in wheel.infolist()}


def test_it_holds_the_recipes_the_data_and_the_checkpoint(names: dict[str, int]) -> None:
    for recipe in (ROOT / "recipes").glob("*.toml"):
        assert f"torchcompress/recipes/{recipe.name}" in names
    bundled = {n: size for n, size in names.items() if n.startswith("torchcompress/data/bundled/")}
    images = sum(size for name, size in bundled.items() if name.endswith(".gz"))
    assert 0 < images < 6_000_000
    assert any(name.endswith("LICENSE.fashion-mnist") for name in bundled)
    assert 0 < next(s for n, s in bundled.items() if n.endswith(".safetensors")) < 23_000_000


def test_it_is_typed_and_holds_no_tests(names: dict[str, int]) -> None:
    assert "torchcompress/py.typed" in names
    assert not any(name.startswith(("tests/", "benchmarks/")) for name in names)

"""Lint, format and types are part of the tests."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "command", [["ruff", "check"], ["ruff", "format", "--check"], ["basedpyright"]], ids=" ".join
)
def test_the_code_is_clean(command: list[str]) -> None:
    tool = shutil.which(command[0], path=str(Path(sys.executable).parent)) or command[0]
    done = subprocess.run(
        [tool, *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_deprecated_or_broken_quantization_in_the_package() -> None:
    forbidden = ("torch.ao", "quint8", "qint8", "quantize_per", "onednn.qadd", "onednn.qmul")
    found = [
        f"{path.relative_to(ROOT)}: {word}"
        for path in (ROOT / "torchcompress").rglob("*.py")
        for word in forbidden
        if word in path.read_text(encoding="utf-8")
    ]
    assert found == []


def test_checkpoints_are_only_read_without_pickle() -> None:
    for path in (ROOT / "torchcompress").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not any(call in text for call in ("pickle.load", "Unpickler")), path
        assert text.count("torch.load(") == text.count("weights_only=True"), path

import subprocess
import sys
from pathlib import Path

import pytest

from torchcompress.cli import main
from torchcompress.recipe import bundled_recipes

TRAIN_ONLY = ["--set", "stage=[{kind='train', epochs=1}]"]


def test_a_recipe_runs_and_its_report_is_shown_again(
    tiny_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["run", str(tiny_recipe), "--out", str(out)]) == 0
    first = capsys.readouterr().out
    assert "gate: nothing was asked" in first
    page = (out / "report.html").read_text()
    (out / "report.html").unlink()
    assert main(["report", str(out)]) == 0
    assert capsys.readouterr().out.split("\n\nsaved")[0] == first.split("\n\nsaved")[0]
    assert (out / "report.html").read_text() == page
    assert main(["layers", str(out / "model.tcz")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["0", "conv2d", "8x3x3x3", "int8"]
    assert [line.split()[0] for line in lines[2:-2]] == ["0", "3", "7"]
    assert main(["layers", str(out / "02-prune.channels.tcz")]) == 1
    assert "tiny_network:tiny" in capsys.readouterr().err


def test_a_missed_gate_is_3(tiny_recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    gate = ["--set", "gate.min_speedup=1000"]
    assert main(["run", str(tiny_recipe), "--out", str(out), *TRAIN_ONLY, *gate]) == 3
    assert (out / "model.tcz").is_file()


def test_check_trains_nothing_and_writes_nothing(
    tiny_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert main(["check", str(tiny_recipe)]) == 0
    assert "tiny: can run (train, prune.channels, distill, quantize.ptq)" in capsys.readouterr().out
    assert sorted(tmp_path.rglob("*")) == before


def test_recipes_are_listed_one_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(bundled_recipes())
    assert all(len(line.split()) > 3 for line in lines)


def test_layers_are_listed_with_shapes_and_macs(
    tiny_recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["layers", "resnet18", "--image-size", "32"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == [
        "conv1",
        "Conv2d",
        "64x3x7x7",
        "1x64x16x16",
        "9.41",
        "k",
        "2.41",
        "M",
    ]
    assert lines[-1] == "37.5 M MACs for one input of 3x32x32"
    assert main(["layers", str(tiny_recipe)]) == 0
    assert "for one input of 3x16x16" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        ([], 2, "Usage"),
        (["rum"], 2, "No such command"),
        (["run"], 2, "Missing argument"),
        (["run", "quickstart", "--sett", "a=b"], 2, "--set"),
        (["run", "quikstart"], 2, "did you mean 'quickstart'?"),
        (["check", "quickstart", "--set", "stage.1.epochz=3"], 2, "stage[1].epochz: unknown key"),
        (["check", "quickstart", "--set", "data.root=/no/such"], 2, "data.root"),
        (["run", "quickstart", "--out", "/proc/nowhere"], 2, "cannot be written"),
        (["layers", "resnet81"], 2, "did you mean 'resnet18'"),
        (["layers", "missing.tcz"], 1, "missing.tcz"),
        (["report", "/no/such"], 2, "does not exist"),
        (["report", "."], 1, "report.json: cannot be read"),
    ],
)
def test_an_error_is_one_message_and_a_code(
    arguments: list[str],
    code: int,
    part: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == code
    shown = capsys.readouterr()
    assert part in shown.out + shown.err
    assert "Traceback" not in shown.err
    assert list(tmp_path.iterdir()) == []


def test_an_unexpected_error_is_one_line_and_debug_shows_it(
    tiny_recipe: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def broken(_: object) -> None:
        raise AssertionError("by design")

    monkeypatch.setattr("torchcompress.recipe.prepare", broken)
    arguments = ["check", str(tiny_recipe)]
    assert main(arguments) == 1
    assert capsys.readouterr().err.splitlines() == [
        "error: AssertionError: by design",
        "  -> run it again with --debug for the traceback",
    ]
    with pytest.raises(AssertionError, match="by design"):
        main([*arguments, "--debug"])


def test_debug_shows_where_an_error_comes_from() -> None:
    from torchcompress.core.errors import RecipeError

    with pytest.raises(RecipeError):
        main(["check", "quikstart", "--debug"])


def test_the_package_runs_as_a_module(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "torchcompress", "check", "quikstart"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: recipe: 'quikstart'")

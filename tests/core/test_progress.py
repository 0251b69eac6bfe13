import pytest

from torchcompress.core.progress import progress, progress_bar


def test_items_pass_through_and_quick_work_shows_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert list(progress(range(3), "counting")) == [0, 1, 2]
    with progress_bar("counting", 3) as bar:
        bar.update(3)
    assert bar.n == 3
    assert "counting" not in capsys.readouterr().err


def test_only_the_first_process_shows_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    assert progress([1], "counting").disable

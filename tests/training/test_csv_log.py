import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from torchcompress.core.errors import CompressError
from torchcompress.training import Callback, CSVLog, Run, Trainer, TrainerConfig


def test_each_epoch_is_one_line_with_the_numbers_of_the_history(
    tmp_path: Path, make_model: Callable[[], nn.Module], make_loader: Callable[..., Any]
) -> None:
    path = tmp_path / "log.csv"
    config = TrainerConfig(epochs=2)
    loader = make_loader()
    result = Trainer(make_model(), loader, loader, config, callbacks=[CSVLog(path)]).fit()
    with path.open() as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    assert rows == list(result.history)
    assert list(rows[0]) == [
        "epoch",
        "step",
        "lr",
        "loss",
        "accuracy",
        "images_per_second",
        "seconds",
    ]


def test_a_folder_that_vanishes_is_named(
    tmp_path: Path, make_model: Callable[[], nn.Module], make_loader: Callable[..., Any]
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()

    class Vanish(Callback):
        def on_epoch_start(self, run: Run) -> None:
            folder.rmdir()

    trainer = Trainer(make_model(), make_loader(), callbacks=[CSVLog(folder / "log.csv"), Vanish()])
    with pytest.raises(CompressError, match=r"log\.csv: the log could not be written"):
        trainer.fit()

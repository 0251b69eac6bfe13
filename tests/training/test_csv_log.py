import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from torchcompress.training import CSVLog, Trainer, TrainerConfig


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

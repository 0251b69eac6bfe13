from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torchcompress import Target, prune_channels
from torchcompress.errors import CompressError
from torchcompress.reconstruction import consumers

BATCHES = [torch.randn(16, 3, 6, 6, generator=torch.Generator().manual_seed(i)) for i in range(4)]
TARGET = Target(channels=0.5)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, bias=False),
        nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 4),
    ).eval()  # fmt: skip


def pruned(path: Path | None, batches: list[Tensor] = BATCHES) -> dict[str, Tensor]:
    smaller = prune_channels(
        network(), BATCHES[0], TARGET, round_to=1, calibration=batches, resume=path
    )
    return smaller.state_dict()


def test_a_run_that_was_stopped_goes_on_and_ends_bit_equal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, fit, names = pruned(None), consumers._fit, list[str]()

    def stopped(dense: nn.Module, smaller: nn.Module, pair: Any, calibration: Any) -> None:
        names.append(pair.layer.name)
        if len(names) == 2:
            raise KeyboardInterrupt
        fit(dense, smaller, pair, calibration)

    monkeypatch.setattr(consumers, "_fit", stopped)
    path = tmp_path / "layers"
    with pytest.raises(KeyboardInterrupt):
        pruned(path)
    again = pruned(path)
    assert names == ["3", "7", "7", "9"]
    assert all(torch.equal(whole[name], tensor) for name, tensor in again.items())


def test_the_file_of_another_run_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "layers"
    pruned(path)
    with pytest.raises(CompressError, match="other calibration data"):
        pruned(path, [2 * batch for batch in BATCHES])

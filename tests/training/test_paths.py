from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from torchcompress.core.errors import CompressError
from torchcompress.training import CSVLog, Trainer
from torchcompress.training.paths import require_writable


def test_a_missing_folder_is_named_before_anything_is_trained(
    tmp_path: Path, make_model: Callable[[], nn.Module], make_loader: Callable[..., Any]
) -> None:
    require_writable(tmp_path / "a")
    path = tmp_path / "nowhere" / "a"
    model = make_model()
    model.register_forward_pre_hook(lambda *_: pytest.fail("trained"))
    choices: list[dict[str, Any]] = [{"checkpoint": path}, {"callbacks": [CSVLog(path)]}]
    for arguments in choices:
        with pytest.raises(CompressError, match=r"nowhere/a: its folder does not exist"):
            Trainer(model, make_loader(), **arguments).fit()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_the_file_s_place_is_named_before_anything_is_trained(
    tmp_path: Path, make_model: Callable[[], nn.Module], make_loader: Callable[..., Any]
) -> None:
    model = make_model()
    model.register_forward_pre_hook(lambda *_: pytest.fail("trained"))
    choices: list[dict[str, Any]] = [{"checkpoint": tmp_path}, {"callbacks": [CSVLog(tmp_path)]}]
    for arguments in choices:
        with pytest.raises(CompressError, match="not a regular file"):
            Trainer(model, make_loader(), **arguments).fit()

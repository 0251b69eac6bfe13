from typing import Any

import pytest

from torchcompress.core.errors import CompressError
from torchcompress.training import TrainerConfig


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("epochs", 1.5),
        ("epochs", True),
        ("seed", -1),
        ("lr", 0),
        ("lr", float("nan")),
        ("lr", "0.1"),
        ("momentum", 1.0),
        ("momentum", -0.1),
        ("weight_decay", -1e-4),
        ("warmup_epochs", 10),
        ("label_smoothing", 1),
        ("mixup_alpha", -1),
        ("clip_norm", 0),
        ("ema_decay", 1),
        ("amp", "fp8"),
    ],
)
def test_a_value_out_of_range_is_named(name: str, value: Any) -> None:
    with pytest.raises(CompressError, match=rf"^config\.{name}: "):
        TrainerConfig(**{name: value})


def test_a_misspelt_optimizer_gets_a_suggestion() -> None:
    with pytest.raises(CompressError, match="did you mean 'adamw'"):
        TrainerConfig(optimizer="adam")

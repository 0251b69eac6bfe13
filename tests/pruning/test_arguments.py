from typing import Any

import pytest
import torch
from torch import nn

from torchcompress import Target
from torchcompress.errors import CompressError
from torchcompress.pruning import plan_channels

MODEL, x = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), torch.randn(2, 4)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("round_to", 2.5), ("round_to", "8"), ("round_to", True), ("min_channels", 1.5),
        ("max_removed", "1"), ("max_removed", None), ("max_removed", True), ("ratios", 0.5),
        ("ratios", [1]), ("ratios", {3: 0.5}), ("exclude", None), ("exclude", [3]),
        ("exclude", 3), ("scope", 3), ("scope", []), ("attention", None), ("since", 3),
        ("data", 5), ("data", x), ("loss", "ce"), ("forward", 3),
        ("importance", lambda groups, tensors: None), ("target", 0.5),
    ],
)  # fmt: skip
def test_an_argument_of_another_type_is_named(name: str, value: Any) -> None:
    with pytest.raises(CompressError) as caught:
        plan_channels(MODEL, x, **{"target": Target(channels=0.5), name: value})
    assert caught.value.where == name
    assert caught.value.hint


@pytest.mark.parametrize("value", ["a", True, None, 1.5])
def test_a_ratio_names_its_glob(value: Any) -> None:
    for glob, kept in (("0", value), ("nothing", 0.5)):
        with pytest.raises(CompressError) as caught:
            plan_channels(MODEL, x, Target(channels=0.5), ratios={glob: kept})
        assert caught.value.where == f"ratios[{glob!r}]"


def test_nothing_but_names_is_explained() -> None:
    plan = plan_channels(MODEL, x, Target(channels=0.5))
    with pytest.raises(CompressError, match="no channels have this name"):
        plan.explain(3)  # pyright: ignore[reportArgumentType]

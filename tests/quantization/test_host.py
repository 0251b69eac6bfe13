"""Modules taken out of a model and others put in their place."""

import pytest
import torch
from torch import nn

from torchcompress.core.errors import ArtifactError, CalibrationError, CompressError
from torchcompress.quantization.calibrate import Batches
from torchcompress.quantization.host import (
    PartBatches,
    check_paths,
    keep_settings,
    replaced,
    with_modules,
)


def shared() -> nn.Sequential:
    inner = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    return nn.Sequential(inner, nn.Linear(3, 3), nn.ModuleDict({"again": inner}))


def test_every_place_is_replaced_and_given_back() -> None:
    model, other = shared(), nn.Identity()
    inner = model[0]
    with replaced(model, {"0": other}):
        assert model[0] is other
        assert model.get_submodule("2.again") is other
    assert model[0] is model.get_submodule("2.again") is inner


def test_a_copy_with_other_modules_shares_nothing_else() -> None:
    model, other = shared().train(), nn.Identity()
    made = with_modules(model, {"0": other})
    assert made[0] is made.get_submodule("2.again") is other
    assert made[1] is not model[1]
    assert torch.equal(made.get_parameter("1.weight"), model.get_parameter("1.weight"))
    assert isinstance(model[0], nn.Sequential)
    assert model.training
    assert not any(module.training for module in made.modules())
    with pytest.raises(CompressError, match="7: the model has no such module"):
        with_modules(model, {"7": other})


def test_plain_attributes_are_taken_over_and_nothing_is_overwritten() -> None:
    class Old(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.width, self.sizes, self.mode = 3, [(1, 2.0), "a"], "old"
            self.tensor, self.layer = torch.ones(1), nn.ReLU()

    new = nn.Identity()
    vars(new)["mode"] = "new"
    keep_settings(Old(), new)
    own = vars(new)
    assert (own["width"], own["sizes"], own["mode"]) == (3, [(1, 2.0), "a"], "new")
    assert not {"tensor", "layer"} & own.keys()


@pytest.mark.parametrize("paths", [["", "a"], ["a", "a.b"], ["a."], [".a"], ["a..b"]])
def test_paths_of_parts_lie_beside_each_other(paths: list[str]) -> None:
    with pytest.raises(ArtifactError, match=r"plan\.parts\..*is no part beside the others"):
        check_paths(paths)
    check_paths([""])
    check_paths(["a.b", "a.c", "ab"])


def test_the_host_runs_around_a_part() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2)).eval()
    x = torch.randn(2, 3)
    batches = PartBatches([x], None, torch.device("cpu"), host=model, path="1")
    (got,) = batches.call(model[1], 0, x)
    assert torch.equal(got, model(x))
    seen: list[torch.Tensor] = []

    class Spy(nn.Module):
        def forward(self, y: torch.Tensor) -> None:
            seen.append(y)

    for index in (0, 1):
        assert batches.call(Spy(), index, x) == [None]
        assert torch.equal(seen[-1], model[0](x))
    assert isinstance(model[1], nn.Linear)
    with pytest.raises(CalibrationError, match="batch 3: the model cannot run on it"):
        batches.call(model[1], 3, x[:, :2])
    assert isinstance(batches, Batches)


def test_what_a_part_was_called_with_is_kept_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2)).eval()
    model[0].register_forward_hook(lambda *_: runs.append(len(runs)))
    x = torch.randn(2, 3)
    monkeypatch.setattr("torchcompress.quantization.host._MOST_KEPT", 48)
    batches = PartBatches([x] * 3, None, torch.device("cpu"), host=model, path="1")
    for _ in range(2):
        for index in range(3):
            (got,) = batches.call(model[1], index, x)
            assert torch.equal(got, model[1](model[0](x)))
            runs.pop()
    assert len(runs) == 4
    batches.release()
    batches.call(model[1], 0, x)
    assert len(runs) == 5

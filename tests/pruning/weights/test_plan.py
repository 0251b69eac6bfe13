import base64
import copy
import json
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torchcompress as tc
from torchcompress.core.plan import plan_from_json, plan_to_json
from torchcompress.errors import ArtifactError, CompressError
from torchcompress.pruning import SparsityPlan


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(5, 7))


def plan() -> SparsityPlan:
    mask = torch.rand(5, 3, 3, 3, generator=torch.Generator().manual_seed(1)) > 0.7
    shapes: dict[str, tuple[int, ...]] = {"0.weight": (5, 3, 3, 3), "3.weight": (7, 5)}
    return SparsityPlan("sparsity=0.6", None, shapes, {"0.weight": mask}, {"3.weight": "the end"})


def test_it_zeroes_what_the_masks_drop_and_nothing_else() -> None:
    made, model = plan(), net()
    model.get_parameter("0.weight").data[0, 0, 0, 0] = float("nan")
    made.kept["0.weight"][0, 0, 0, 0] = False
    before = copy.deepcopy(model.state_dict())
    sparse = made.apply(model)
    assert all(torch.equal(t, before[n]) for n, t in list(model.state_dict().items())[1:])
    after = sparse.state_dict()
    assert list(after) == list(before)
    mask = made.kept["0.weight"]
    assert torch.equal(after["0.weight"][mask], before["0.weight"][mask])
    assert not after["0.weight"][~mask].any()
    assert torch.equal(after["3.weight"], before["3.weight"])
    assert tc.history(sparse) == (made,)
    assert tc.history(model) == ()
    assert made.apply(model, inplace=True) is model
    assert torch.equal(model.get_parameter("0.weight"), after["0.weight"])
    assert tc.history(copy.deepcopy(model)) == (made,)


def test_it_survives_json_and_an_artifact(tmp_path: Path) -> None:
    made = plan()
    again = plan_from_json(json.loads(json.dumps(plan_to_json(made))))
    assert again == made
    assert again != SparsityPlan("sparsity=0.6", None, made.shapes, {}, made.notes)
    sparse = made.apply(net())
    tc.save(sparse, tmp_path / "model.tcz")
    loaded = tc.load(tmp_path / "model.tcz", model=net())
    assert tc.history(loaded) == (made,)
    assert torch.equal(loaded.state_dict()["0.weight"], sparse.state_dict()["0.weight"])


def test_its_table_counts() -> None:
    made = plan()
    gone = int((~made.kept["0.weight"]).sum())
    assert made.zeros == {"0.weight": gone, "3.weight": 0}
    assert made.sparsity == gone / 170
    text = str(made)
    assert f"zeros: {gone:,} of 170 weights ({100 * gone / 170:.2f} %)" in text
    assert "0.0 %  the end" in text
    assert text.endswith("asked: sparsity=0.6")


def test_another_architecture_is_refused() -> None:
    with pytest.raises(CompressError) as caught:
        plan().apply(nn.Sequential(nn.Conv2d(3, 5, 5)))
    assert caught.value.where == "0.weight"
    with pytest.raises(CompressError, match="does not have") as caught:
        plan().apply(nn.Sequential(nn.Conv2d(3, 5, 3)))
    assert caught.value.where == "3.weight"


def packed(bits: bytes) -> str:
    return base64.b64encode(zlib.compress(bits)).decode()


@pytest.mark.parametrize(
    "change",
    [
        {"kept": {"0.weight": packed(bytes(18))}},
        {"kept": {"0.weight": packed(bytes(10**7))}},
        {"kept": {"0.weight": packed(bytes(16))}},
        {"kept": {"0.weight": packed(bytes(17))[:12]}},
        {"kept": {"0.weight": "no base64"}},
        {"kept": {"1.weight": packed(bytes(1))}},
        {"kept": {"0.weight": 3}},
        {"shapes": {"0.weight": [5, 3, 3, -3]}},
        {"shapes": {"0.weight": [10**30, 10**30]}},
        {"extra": 1},
        {"target": None},
    ],
    ids=str,
)
def test_a_damaged_plan_is_refused(change: dict[str, Any]) -> None:
    data = plan_to_json(plan())
    with pytest.raises(ArtifactError):
        plan_from_json(data | change)


def test_masks_of_random_bits_take_no_more_than_their_entropy() -> None:
    mask: Tensor = torch.rand(400_000) > 0.9
    made = SparsityPlan("x", None, {"w": (400_000,)}, {"w": mask})
    size = len(base64.b64decode(made.to_json()["kept"]["w"]))
    assert size < 1.05 * 0.469 * 400_000 / 8

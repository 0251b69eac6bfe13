import copy
from typing import Any, ClassVar, Self

import pytest
from torch import nn

from torchcompress import history
from torchcompress.core.history import (
    Architecture,
    architecture,
    inherit,
    record,
    remember_architecture,
)
from torchcompress.core.plan import Plan, plan_from_json, plan_to_json
from torchcompress.errors import ArtifactError


class Renaming(Plan):
    kind: ClassVar[str] = "test.renaming"

    def __init__(self, name: str) -> None:
        self.name = name

    def apply(self, model: nn.Module, *, inplace: bool = False) -> nn.Module:
        return model

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        return cls(data["name"])

    def __str__(self) -> str:
        return self.name


def test_plans_are_remembered_in_order_and_survive_deepcopy() -> None:
    model = nn.Linear(2, 2)
    assert history(model) == ()
    first, second = Renaming("a"), Renaming("b")
    record(model, first)
    record(model, second)
    assert [str(plan) for plan in history(copy.deepcopy(model))] == ["a", "b"]
    assert list(model.state_dict()) == ["weight", "bias"]


def test_a_copy_forgets_nothing_and_shares_nothing() -> None:
    model = nn.Linear(2, 2)
    twin = copy.deepcopy(model)
    record(model, Renaming("a"))
    assert history(twin) == ()


def test_another_module_inherits_what_is_remembered() -> None:
    model, heir = nn.Linear(2, 2), nn.Linear(2, 2)
    record(model, Renaming("a"))
    remember_architecture(model, Architecture("resnet18", {"num_classes": 10}))
    inherit(model, heir)
    assert history(heir) == history(model)
    assert architecture(heir) == Architecture("resnet18", {"num_classes": 10})


def test_a_plan_of_any_kind_round_trips_through_json() -> None:
    data = plan_to_json(Renaming("a"))
    assert data == {"kind": "test.renaming", "name": "a"}
    again = plan_from_json(data)
    assert isinstance(again, Renaming)
    assert again.name == "a"


def test_an_unknown_kind_of_plan_is_an_artifact_error() -> None:
    with pytest.raises(ArtifactError, match=r"test\.renaming"):
        plan_from_json({"kind": "test.renamin"})

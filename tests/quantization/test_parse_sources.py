"""Sources from a file: every field in turn is made wrong, and the plan refuses or applies."""

import copy
import json
from typing import Any

import pytest
import torch
from torch import nn

from torchcompress.core.errors import ArtifactError, CompressError
from torchcompress.quantization import QuantizationPlan, quantize
from torchcompress.quantization.parse_sources import parse_sources


def net() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.ReLU(), nn.Conv2d(4, 2, 1), nn.ConvTranspose2d(2, 4, 2, groups=2)]
    return nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), *layers).eval()


@pytest.fixture(scope="module")
def plan() -> dict[str, Any]:
    made = quantize(net(), [torch.randn(4, 3, 8, 8)]).plan
    assert isinstance(made, QuantizationPlan)
    return json.loads(json.dumps(made.parts[""].to_json()))


def read(part: dict[str, Any]) -> QuantizationPlan:
    return QuantizationPlan.from_json({"parts": {"": part}, "left": [], "split": {}})


def test_round_trip(plan: dict[str, Any]) -> None:
    sources = parse_sources(plan["sources"])
    assert {key: source.to_json() for key, source in sources.items()} == plan["sources"]


def test_a_changed_source_is_refused_or_applies_cleanly(plan: dict[str, Any]) -> None:
    model, refused = net(), 0
    for key, source in plan["sources"].items():
        for at in (None, 0):
            fields = source if at is None else next(iter(source["norms"]), {})
            for field in (*fields, "stranger"):
                for wrong in (None, [], "x", {}, -5.0, 3, True, [2**40], float("inf")):
                    changed = copy.deepcopy(plan)
                    place = changed["sources"][key]
                    if at is not None and place["norms"]:
                        place = place["norms"][0]
                    place[field] = wrong
                    try:
                        read(changed).apply(model)
                    except CompressError:
                        refused += 1
    assert refused > 100


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"weight": []}, r"plan\.sources\.1: names must be text"),
        ({"weight": None, "bias": None, "norms": []}, "a norm alone scales channels"),
        ({"weight": None, "shape": [2**20, 2**20, 1, 1]}, "a norm alone scales channels"),
        ({"shape": "abc"}, "shape must be 2 to 5 sizes"),
        ({"transposed_groups": False}, "transposed_groups do not fit"),
        ({"transposed_groups": 3}, "transposed_groups do not fit"),
    ],
)
def test_what_is_no_source_is_named(
    plan: dict[str, Any], changes: dict[str, Any], match: str
) -> None:
    changed = {**plan, "sources": {**plan["sources"], "1": {**plan["sources"]["1"], **changes}}}
    with pytest.raises(ArtifactError, match=match):
        read(changed)


@pytest.mark.parametrize("eps", ["x", None, -1.0, float("nan"), True])
def test_eps_is_a_number(plan: dict[str, Any], eps: Any) -> None:
    changed = copy.deepcopy(plan)
    changed["sources"]["1"]["norms"][0]["eps"] = eps
    with pytest.raises(ArtifactError, match=r"norms\[0\]: eps must be a number"):
        read(changed)

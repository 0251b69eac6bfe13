"""A program from a file: every field in turn is made wrong, and each is refused."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from int8_networks import quantize_whole
from torch import Tensor, nn

from torchcompress.core.errors import ArtifactError, CompressError
from torchcompress.quantization import Int8Model


class Varied(nn.Module):
    """A little of many kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.again = nn.Conv2d(4, 4, 3, padding=1)
        self.up = nn.ConvTranspose2d(4, 4, 2, stride=2)
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> dict[str, Any]:
        y = torch.relu(self.conv(x))
        y = torch.relu(self.again(y) + y)
        y = torch.cat([y, torch.sigmoid(self.up(torch.max_pool2d(y, 2)))], 1)
        a, _ = y.chunk(2, 1)
        z = self.fc(y.mean((2, 3)).reshape(y.shape[0], -1))
        return {"a": a, "more": (z, [z * 2.0])}


@pytest.fixture(scope="module")
def model() -> Int8Model:
    torch.manual_seed(0)
    return quantize_whole(Varied().eval(), [torch.randn(2, 3, 8, 8)])


def mutations(data: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yields copies of JSON data with one leaf or key made wrong."""
    items = data.items() if isinstance(data, dict) else enumerate(data)
    for key, value in items:
        for wrong in (None, -7, "v999999", [], {"x": 1}, 3.5, float("nan"), True):
            changed = copy.deepcopy(data)
            changed[key] = wrong
            yield f"{path}.{key}={wrong!r}", changed
        if isinstance(value, dict | list):
            for name, inner in mutations(value, f"{path}.{key}"):
                changed = copy.deepcopy(data)
                changed[key] = inner
                yield name, changed
    if isinstance(data, dict):
        yield f"{path}+", {**data, "surprise": 1}


def test_round_trip(model: Int8Model) -> None:
    text = json.dumps(model.program_json(), allow_nan=False)
    again = Int8Model.from_program(json.loads(text), model.tensors)
    x = torch.randn(3, 3, 6, 10)
    want, got = model(x), again(x)
    assert isinstance(got["more"], tuple)
    assert torch.equal(got["a"], want["a"])
    assert torch.equal(got["more"][1][0], want["more"][1][0])
    assert again.program_json() == model.program_json()


def test_a_changed_program_is_refused_or_runs_cleanly(model: Int8Model) -> None:
    """No change of one field may end in anything but an ArtifactError or a sound program."""
    refused = kept = 0
    for _, changed in mutations(model.program_json()):
        try:
            Int8Model.from_program(changed, model.tensors)
            kept += 1
        except ArtifactError:
            refused += 1
    assert refused > 5 * kept


def test_module_names_of_any_kind() -> None:
    model = nn.Sequential()
    model.add_module("3x3-conv/a b", nn.Conv2d(3, 4, 1))
    x = torch.randn(2, 3, 4, 4)
    quantized = quantize_whole(model.eval(), [x])
    again = Int8Model.from_program(quantized.program_json(), quantized.tensors)
    assert torch.equal(again(x), quantized(x))


@pytest.mark.parametrize("data", [None, [], "program", {}, {"rows": []}, 3])
def test_what_is_no_program_at_all(data: Any) -> None:
    with pytest.raises(ArtifactError):
        Int8Model.from_program(data, {})


def test_tensors_must_fit(model: Int8Model) -> None:
    program, tensors = model.program_json(), model.tensors
    wrong: list[tuple[str, Any]] = [
        ("conv.weight", None),
        ("conv.weight", tensors["conv.weight"].float()),
        ("conv.weight", tensors["conv.weight"][:3]),
        ("conv.weight", tensors["conv.weight"].flatten()),
        ("conv.scale", -tensors["conv.scale"]),
        ("conv.scale", tensors["conv.scale"] * float("nan")),
        ("conv.bias", tensors["conv.bias"][:2]),
        ("conv.weight", tensors["conv.weight"].to("meta")),
        ("conv.weight", tensors["conv.weight"].to_sparse()),
        ("up.weight", tensors["up.weight"].to(torch.int8)),
        ("stranger.weight", torch.ones(3)),
    ]
    for name, tensor in wrong:
        with pytest.raises(ArtifactError, match=name.split(".")[0]):
            Int8Model.from_program(program, {**tensors, name: tensor})
    with pytest.raises(ArtifactError, match=r"conv\.scale: the tensor is missing"):
        Int8Model.from_program(program, {k: v for k, v in tensors.items() if k != "conv.scale"})
    for nothing in (None, [], "tensors"):
        with pytest.raises(ArtifactError, match="tensors: must map names to tensors"):
            Int8Model.from_program(program, nothing)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("kind", "key", "value", "match"),
    [
        ("conv2d", "padding", [1, 2**20], r"args\.padding: cannot be \[1, 1048576\]"),
        ("max_pool2d", "kernel_size", [2**11, 2], r"args\.kernel_size: cannot be"),
        ("conv_transpose2d", "output_padding", [0, 2], "output_padding reaches a whole step"),
    ],
)
def test_geometry_is_bounded(
    model: Int8Model, kind: str, key: str, value: list[int], match: str
) -> None:
    program = copy.deepcopy(model.program_json())
    next(op for op in program["ops"] if op["kind"] == kind)["args"][key] = value
    with pytest.raises(ArtifactError, match=match):
        Int8Model.from_program(program, model.tensors)


def test_what_only_a_call_can_tell_is_named_there(model: Int8Model) -> None:
    program, x = copy.deepcopy(model.program_json()), torch.randn(2, 3, 8, 8)
    sums = next(op for op in program["ops"] if op["kind"] == "conv2d" and len(op["inputs"]) == 2)
    sums["args"]["stride"] = [1, 255]
    with pytest.raises(CompressError, match="adds maps of different shapes"):
        Int8Model.from_program(program, model.tensors)(x)
    tensors = {**model.tensors, "up.weight": torch.randn(7, 4, 2, 2)}
    with pytest.raises(CompressError, match="weight for another number of channels"):
        Int8Model.from_program(model.program_json(), tensors)(x)

"""Every kind: a sound operation runs from JSON, a changed one is refused or a plain error."""

import copy
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from kind_examples import EXAMPLES, Example, program_of

from torchcompress.core.errors import ArtifactError, CompressError
from torchcompress.quantization import Int8Model, interpreter
from torchcompress.quantization.operations import (
    KINDS,
    MOVEMENT,
    STORED,
    movement_function,
    quantizer,
)

WRONG = (None, -7, 0, 3, 2.5, float("nan"), True, "relu", "operand", [], [None], [1, 2], {})
LESS = {"size", "rank", "integer", "constant", "quantize", "dequantize", "dropout"}
"""Kinds that are tested elsewhere."""


def test_there_is_an_example_of_every_kind() -> None:
    assert EXAMPLES.keys() | LESS == KINDS.keys()
    assert KINDS.keys() - STORED == {"dropout"}


@pytest.mark.parametrize("kind", EXAMPLES)
def test_a_sound_operation_runs_on_its_own(kind: str) -> None:
    """The flat function, whose shapes are worked out on no data, equals the interpreter."""
    program, tensors, inputs = program_of(kind, EXAMPLES[kind])
    model = Int8Model.from_program({**program.to_json(), "rows": []}, tensors)
    want = interpreter.run(program, tensors, inputs)
    assert torch.equal(model(*inputs), want)


def changed(kind: str) -> Iterator[dict[str, Any]]:
    """Yields programs with one argument, or one entry of one, made wrong; or an operand less."""
    program = {**program_of(kind, EXAMPLES[kind])[0].to_json(), "rows": []}
    for key, wrong in itertools.product(EXAMPLES[kind].args, WRONG):
        value = EXAMPLES[kind].args[key]
        places = [None, *range(len(value))] if isinstance(value, list) else [None]
        for place in places:
            other = copy.deepcopy(program)
            if place is None:
                other["ops"][-1]["args"][key] = wrong
            else:
                other["ops"][-1]["args"][key][place] = wrong
            yield other
    for count in range(len(program["ops"][-1]["inputs"])):
        other = copy.deepcopy(program)
        del other["ops"][-1]["inputs"][count]
        yield other


@pytest.mark.parametrize("kind", EXAMPLES)
def test_a_changed_operation_is_refused_or_fails_in_plain_words(kind: str) -> None:
    _, tensors, inputs = program_of(kind, EXAMPLES[kind])
    for other in changed(kind):
        try:
            Int8Model.from_program(other, tensors)(*inputs)
        except CompressError:
            continue


@pytest.mark.parametrize("kind", sorted(MOVEMENT & EXAMPLES.keys()))
def test_moving_commutes_with_quantizing(kind: str) -> None:
    program, tensors, inputs = program_of(kind, EXAMPLES[kind])
    to_grid, op = quantizer(0.02, 77), program.ops[-1]
    count = len(EXAMPLES[kind].shapes)
    more = [tensors["index.value"]] if EXAMPLES[kind].index else EXAMPLES[kind].sizes
    want = to_grid(movement_function(op)(*inputs[:count], *more))
    got = movement_function(op, 77)(*(to_grid(x) for x in inputs[:count]), *more)
    assert got.dtype == torch.uint8
    assert torch.equal(got, want)


@pytest.mark.parametrize(
    ("kind", "index", "match"),
    [
        ("take", [9], "out of bounds of 4 entries"),
        ("window_bias", [99] * 16, "bounds of 9 entries"),
    ],
)
def test_an_index_beyond_its_table(kind: str, index: list[int], match: str) -> None:
    good = EXAMPLES[kind]
    example = Example(good.args, good.shapes, good.sizes, index=index)
    program, tensors, inputs = program_of(kind, example)
    with pytest.raises(CompressError, match=match):
        Int8Model.from_program({**program.to_json(), "rows": []}, tensors)(*inputs)


def test_a_constant_of_another_type() -> None:
    program, tensors, _ = program_of("take", EXAMPLES["take"])
    data = {**program.to_json(), "rows": []}
    with pytest.raises(ArtifactError, match=r"index\.value: must be torch\.int64"):
        Int8Model.from_program(data, {"index.value": tensors["index.value"].float()})
    data["ops"][0]["args"]["dtype"] = "float32"
    with pytest.raises(ArtifactError, match="take takes an index"):
        Int8Model.from_program(data, {"index.value": tensors["index.value"].float()})

import pytest
import torch
from torch import nn

from torchcompress import Target
from torchcompress.errors import CompressError, UnsupportedError
from torchcompress.pruning.weights import NM, Block, parse_pattern, prunable_weights
from torchcompress.pruning.weights.pattern import check_divides, check_pattern_target


def test_patterns_are_read_and_written() -> None:
    assert parse_pattern("2:4") == NM(2, 4)
    assert parse_pattern("block:4x1") == Block(4, 1)
    assert parse_pattern(None) is None
    for text in ("1:4", "3:8", "block:4x4", "block:16x2"):
        assert str(parse_pattern(text)) == text
        assert parse_pattern(parse_pattern(text)) == parse_pattern(text)


@pytest.mark.parametrize("text", ["4:4", "0:4", "2-4", "2:4:8", "block:1x1", "block:4", "", "n:m"])
def test_what_is_no_pattern_is_refused(text: str) -> None:
    with pytest.raises(CompressError) as caught:
        parse_pattern(text)
    assert caught.value.where == "pattern"
    assert caught.value.hint


def test_the_columns_of_a_group_are_consecutive_inputs_at_one_position() -> None:
    inputs, kernel = 8, 6
    columns = NM(1, 4).columns(inputs, kernel)
    found = {tuple(row) for row in columns.tolist()}
    wanted = {
        tuple((first + i) * kernel + position for i in range(4))
        for first in (0, 4)
        for position in range(kernel)
    }
    assert found == wanted


def test_a_layer_that_a_pattern_does_not_divide_is_named() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=4), nn.Conv2d(8, 6, 1), nn.Conv2d(6, 8, 1)
    )
    weights = prunable_weights(model, keep_ends=False).weights
    with pytest.raises(UnsupportedError) as caught:
        check_divides(NM(2, 4), weights)
    assert caught.value.where == "0"
    assert "(2 more layers" in caught.value.what
    assert caught.value.hint == "exclude=['0', '1', '3']"
    check_divides(NM(2, 4), prunable_weights(model, ["1", "3"]).free)
    check_divides(Block(2, 1), weights)
    with pytest.raises(UnsupportedError, match="6 output"):
        check_divides(Block(4, 2), weights[2:3])
    with pytest.raises(UnsupportedError, match="in each of its groups"):
        check_divides(Block(4, 1), weights[1:2])


def test_an_nm_pattern_brings_its_sparsity() -> None:
    assert check_pattern_target(NM(2, 4), None) == Target(sparsity=0.5)
    assert check_pattern_target(NM(1, 4), Target(sparsity=0.75)).value == 0.75
    assert check_pattern_target(Block(4, 4), Target(sparsity=0.9)).value == 0.9
    with pytest.raises(CompressError, match=r"whose sparsity is 0\.5"):
        check_pattern_target(NM(2, 4), Target(sparsity=0.9))
    with pytest.raises(CompressError, match="missing"):
        check_pattern_target(None, None)
    with pytest.raises(UnsupportedError, match=r"macs=0\.5"):
        check_pattern_target(None, Target(macs=0.5))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(8, 12, (3, 2)),
        nn.Conv1d(8, 12, 5, groups=4),
        nn.ConvTranspose2d(8, 12, 3, groups=2),
        nn.Linear(8, 12),
    ],
    ids=str,
)
def test_the_matrices_hold_what_meets_which_input(layer: nn.Module) -> None:
    (weight,) = prunable_weights(layer, keep_ends=False).weights
    value = weight.parameter.detach()
    matrices = weight.to_matrices(value)
    groups, outputs, kernel, inputs = matrices.shape
    assert (groups, outputs, kernel, inputs) == (
        weight.groups,
        12 // weight.groups,
        weight.kernel,
        8 // weight.groups,
    )
    flat = value.reshape(*value.shape[:2], -1)
    for g in range(groups):
        for o in range(outputs):
            for i in range(inputs):
                index = (g * inputs + i, o) if weight.transposed else (g * outputs + o, i)
                assert torch.equal(matrices[g, o, :, i], flat[index])
    assert torch.equal(weight.from_matrices(matrices), value)

import json

import numpy as np
import pytest
from channel_cases import CASES

from torchcompress import Target
from torchcompress.core.plan import plan_from_json, plan_to_json
from torchcompress.errors import CompressError
from torchcompress.graph import Group
from torchcompress.pruning import PruningPlan, plan_channels
from torchcompress.pruning.group_cut import GroupCut


def plan_of(name: str) -> PruningPlan:
    model, x = CASES[name].build()
    return plan_channels(model, x, Target(channels=0.5), round_to=1)


def test_a_layer_is_explained_by_the_channels_that_it_makes_and_reads() -> None:
    explanation = plan_of("residual").explain("c2")
    (group,) = [g for g in explanation.groups if not g.frozen]
    assert group.members == {
        "c1.weight[0]": 16, "c1.bias[0]": 16, "c2.weight[0]": 16, "c2.weight[1]": 16,
        "c2.bias[0]": 16, "fc.weight[1]": 16,
    }  # fmt: skip
    assert group.coupled["add"] == ("c1.weight[0]", "c2.weight[0]")
    text = str(explanation)
    assert text.startswith("group c1: 8 of 16 channels stay\n")
    assert "what can go: 16 units, each a channel" in text
    assert "add: c1.weight[0], c2.weight[0]" in text


def test_a_parameter_and_a_group_are_explained_too() -> None:
    plan = plan_of("dense_cat_bn")
    assert [g.name for g in plan.explain("c3.weight").groups] == ["c1", "c2", "c3"]
    assert [g.name for g in plan.explain("c1.weight[1]").groups] == ["c1.weight[1]"]
    assert [g.name for g in plan.explain("b3.running_mean").groups] == ["c1", "c2", "c3"]


def test_what_is_frozen_says_why() -> None:
    text = str(plan_of("residual").explain("fc"))
    assert "group fc: 10 of 10 channels stay\n  frozen: reaches the output" in text
    text = str(plan_of("split_hardcoded").explain("c1"))
    assert "frozen: fails its trial, so the model relies on its size: split_with_sizes" in text


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([[0], [1]], "a channel"),
        ([[0, 1, 2], [3, 4, 5]], "3 neighboring channels: a whole group, head or block"),
        ([[0, 2], [1, 3]], "2 channels: the same offset in each of 2 groups, heads or parts"),
        ([[0, 1, 4, 5], [2, 3, 6, 7]], "2 blocks of 2 neighboring channels, such as a head's"),
        ([[0, 1, 4], [2, 3, 5]], "3 channels that only go together"),
    ],
)
def test_a_unit_is_put_in_words(rows: list[list[int]], words: str) -> None:
    units = np.array(rows)
    group = Group("conv", {("conv.weight", 0): units}, units[:, 0], (), units.shape[1], None)
    cut = GroupCut.of(group, 1, {})
    assert cut.unit.startswith(words)
    assert (cut.units, cut.channels, cut.kept) == (2, units.size, units.shape[1])


def test_what_is_inexact_says_why() -> None:
    assert "\n  inexact: is read whole by aten.native_layer_norm\n" in str(
        plan_of("cls_token_pos").explain("n")
    )


def test_the_nearest_names_are_given_for_an_unknown_one() -> None:
    with pytest.raises(CompressError, match=r"\('c1.weigth'\): no channels .*\n.*'c1.weight'"):
        plan_of("residual").explain("c1.weigth")


def test_a_plan_read_from_json_explains_the_same() -> None:
    plan = plan_of("c2f_block")
    again = plan_from_json(json.loads(json.dumps(plan_to_json(plan))))
    assert isinstance(again, PruningPlan)
    assert again.explain("m") == plan.explain("m")

import json

import pytest
import torch
from channel_cases import CASES
from torch import nn

from torchcompress import Target, history
from torchcompress.core.plan import plan_from_json, plan_to_json
from torchcompress.errors import CompressError
from torchcompress.pruning import PruningPlan, plan_channels

COMPOSED = ["residual", "dense_cat_bn", "group_conv", "c2f_block", "cls_token_pos", "tied_weights",
            "mha_module", "groupnorm", "weight_norm"]  # fmt: skip


def two_plans(name: str) -> tuple[nn.Module, nn.Module, PruningPlan, PruningPlan]:
    """Returns a model, the same pruned twice, and the plans."""
    model, x = CASES[name].build()
    first = plan_channels(model, x, Target(channels=0.75), round_to=1)
    once = first.apply(model)
    second = plan_channels(once, x, Target(channels=0.5), round_to=1)
    return model, second.apply(once), first, second


@pytest.mark.parametrize("name", COMPOSED)
def test_two_plans_as_one_give_the_same_model(name: str) -> None:
    model, twice, first, second = two_plans(name)
    both = first.then(second)
    found = both.apply(model)
    assert found.state_dict().keys() == twice.state_dict().keys()
    for key, tensor in twice.state_dict().items():
        assert torch.equal(found.state_dict()[key], tensor)
    _, x = CASES[name].build()
    assert torch.equal(found(x), twice(x))
    assert history(found) == (both,)


def test_the_table_and_the_data_of_both_together() -> None:
    _, twice, first, second = two_plans("dense_cat_bn")
    both = first.then(second)
    assert both.params == (first.params[0], second.params[1])
    assert both.params[1] == sum(p.numel() for p in twice.parameters())
    assert both.macs == (first.macs[0], second.macs[1])
    kept = {group.name: (group.channels, group.kept) for group in both.groups}
    assert kept["c1"] == (16, 6)
    assert kept["c2"] == (8, 3)
    assert "channels=0.75, then channels=0.5" in both.target
    assert plan_from_json(json.loads(json.dumps(plan_to_json(both)))) == both


def test_plans_that_do_not_follow_each_other_are_refused() -> None:
    _, _, first, second = two_plans("residual")
    with pytest.raises(CompressError, match=r"fc\.weight: the first plan leaves the shape"):
        second.then(first)

from typing import Any

import pytest
import torch
from torch import nn
from training_loop import net, same_tensors, sgd, train

from torchcompress import Target
from torchcompress.errors import CompressError, TargetUnreachable, UnsupportedError
from torchcompress.pruning import MagnitudePruner, OneShot

CONV = "3.weight"


def test_a_state_of_another_pruner_is_refused() -> None:
    state = MagnitudePruner(net(), Target(sparsity=0.8)).state_dict()
    for other in (Target(sparsity=0.5), 0.01, None):
        pattern = "2:4" if other is None else None
        with pytest.raises(CompressError, match=r"asked for sparsity=0\.8"):
            MagnitudePruner(net(), other, pattern=pattern).load_state_dict(state)
    for wrong in ({}, None, {**state, "more": 1}):
        with pytest.raises(CompressError, match="no state of a pruner"):
            MagnitudePruner(net(), Target(sparsity=0.8)).load_state_dict(wrong)  # pyright: ignore
    wide = nn.Sequential(*(nn.Conv2d(3, 20, 3), nn.Conv2d(20, 20, 3), nn.Conv2d(20, 4, 3)))
    with pytest.raises(CompressError, match="another model"):
        MagnitudePruner(wide, Target(sparsity=0.5), scope="global").load_state_dict(
            {**state, "asked": "sparsity=0.5, scope=global, importance=magnitude"}
        )


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"target": None}, CompressError, "target: is missing"),
        ({"target": Target(macs=0.5)}, UnsupportedError, "do not bring macs"),
        ({"target": 0.0}, CompressError, "target: 0 is not above 0"),
        ({"target": float("nan")}, CompressError, "is not a number"),
        ({"target": {}}, CompressError, "holds no threshold"),
        ({"target": {"nope": 0.1}}, CompressError, "matches no weight that may go"),
        ({"target": {"0": 0.1}}, CompressError, "matches no weight that may go"),
        ({"target": {"3": "x"}}, CompressError, "is not a number"),
        ({"target": 0.01, "scope": "global"}, CompressError, "leaves no weights to compete"),
        ({"target": 0.01, "pattern": "2:4"}, CompressError, "does not go with the pattern"),
        ({"target": 0.01, "importance": "movement"}, CompressError, "does not go with movement"),
        ({"pattern": "2:4"}, CompressError, "does not go with the pattern 2:4"),
        ({"pattern": "2:5"}, UnsupportedError, "does not divide"),
        ({"pattern": "2:4", "target": None, "scope": "erk"}, CompressError, "to compete"),
        ({"scope": "glob"}, CompressError, "did you mean 'global'"),
        ({"exclude": ["nope"]}, CompressError, "matches no convolution"),
        ({"exclude": ["3"]}, CompressError, "every weight stays"),
        ({"schedule": 3}, CompressError, "is not a schedule"),
        ({"schedule": lambda step: 2.0}, CompressError, "gives 2"),
        ({"target": 10**400}, CompressError, "target: a huge whole number is not a number"),
        ({"target": {1: 0.1}}, CompressError, "takes globs"),
        ({"growth": 3}, CompressError, "growth: 3 is no way to move zeros"),
        ({"keep_ends": "x"}, CompressError, "keep_ends: 'x' is neither"),
        ({"importance": "size"}, CompressError, "is not an importance"),
        ({"target": Target(sparsity=0.9)}, TargetUnreachable, r"ask for sparsity=0\.8914 or less"),
    ],
    ids=str,
)
def test_bad_input_is_refused(
    arguments: dict[str, Any], error: type[CompressError], match: str
) -> None:
    model = net()
    with pytest.raises(error, match=match):
        MagnitudePruner(model, **{"target": Target(sparsity=0.8), **arguments})
    assert same_tensors(model, net())


def test_what_cannot_be_attached_or_finalized_is_refused() -> None:
    model = net()
    optimizer = sgd(model)
    pruner = MagnitudePruner(model, Target(sparsity=0.5), schedule=OneShot(3))
    for wrong in ((), (sgd(net()),), (3,)):
        with pytest.raises(CompressError):
            pruner.attach(*wrong)  # pyright: ignore[reportArgumentType]
    for average in (3, None, [3]):
        with pytest.raises(CompressError, match="no module that holds averages"):
            pruner.attach(optimizer, ema=average)  # pyright: ignore[reportArgumentType]
    with pytest.raises(CompressError, match="holds other tensors"):
        pruner.attach(optimizer, ema=nn.Linear(2, 2))
    pruner.attach(optimizer)
    with pytest.raises(CompressError, match="attached already"):
        pruner.attach(optimizer)
    with pytest.raises(CompressError, match="0 % of the way"):
        pruner.finalize()
    train(model, [optimizer], 3)
    pruner.finalize()
    with pytest.raises(CompressError, match="finalized already"):
        pruner.attach(optimizer)


def test_a_weight_that_is_not_finite_is_named() -> None:
    model = net()
    model.get_parameter(CONV).data[0, 0, 0, 0] = float("nan")
    with pytest.raises(CompressError, match="holds NaN") as caught:
        MagnitudePruner(model, Target(sparsity=0.5))
    assert caught.value.where == CONV


def test_what_has_no_numbers_is_refused_or_left_out() -> None:
    with pytest.raises(UnsupportedError, match="on the meta device"):
        MagnitudePruner(net().to("meta"), Target(sparsity=0.5))
    empty = nn.Linear(4, 4)
    empty.weight = nn.Parameter(torch.zeros(4, 0))
    model = nn.Sequential(empty, nn.Linear(8, 8), nn.Linear(8, 2))
    plan = MagnitudePruner(model, Target(sparsity=0.5)).finalize()
    assert plan.zeros == {"1.weight": 40, "2.weight": 0}
    assert set(plan.shapes) == {"1.weight", "2.weight"}


def test_inference_mode_changes_nothing() -> None:
    inside, outside = net(), net()
    with torch.inference_mode():
        plan = MagnitudePruner(inside, Target(sparsity=0.8)).finalize()
    assert plan == MagnitudePruner(outside, Target(sparsity=0.8)).finalize()
    assert same_tensors(inside, outside)

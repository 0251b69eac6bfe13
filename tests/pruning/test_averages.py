import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel
from training_loop import X, net, same_tensors, sgd, train

from torchcompress import Target, prune_channels
from torchcompress.core.modules import innermost
from torchcompress.errors import CompressError
from torchcompress.pruning import ChannelPruner, OneShot


def test_averages_of_a_compiled_model_are_cut() -> None:
    model = net()
    compiled = torch.compile(model, backend="eager")
    assert isinstance(compiled, nn.Module)
    averages = [AveragedModel(compiled), copy.deepcopy(compiled)]
    ChannelPruner(compiled, X, Target(macs=0.5)).attach(sgd(model), ema=averages)
    pruned = prune_channels(net(), X, Target(macs=0.5))
    assert all(same_tensors(innermost(one), pruned) for one in (averages[0].module, averages[1]))


def test_an_average_is_given_once_and_is_not_the_model() -> None:
    model = net()
    average = copy.deepcopy(model)
    for averages in ([average, average], [AveragedModel(model), model]):
        pruner = ChannelPruner(model, X, Target(macs=0.5))
        with pytest.raises(CompressError, match="shares tensors"):
            pruner.attach(sgd(model), ema=averages)
    assert same_tensors(average, net())
    assert same_tensors(model, net())


def test_no_average_is_cut_where_another_no_longer_fits() -> None:
    model = net()
    averages = [copy.deepcopy(model), copy.deepcopy(model)]
    optimizer = sgd(model)
    ChannelPruner(model, X, Target(macs=0.5), schedule=OneShot(1)).attach(optimizer, ema=averages)
    prune_channels(averages[1], X, Target(channels=0.5), inplace=True)
    with pytest.raises(CompressError, match="holds other tensors"):
        train(model, [optimizer], 1)
    assert same_tensors(averages[0], net())


@pytest.mark.parametrize(
    ("average", "message"),
    [
        (nn.Linear(2, 2), "Linear holds other tensors"),
        (AveragedModel(prune_channels(net(), X, Target(channels=0.5))), "holds other tensors"),
        ("ema", "str is no module"),
    ],
)
def test_an_average_that_does_not_fit_is_refused_before_anything_changes(
    average: Any, message: str
) -> None:
    model = net()
    pruner = ChannelPruner(model, X, Target(macs=0.5))
    with pytest.raises(CompressError, match=message):
        pruner.attach(sgd(model), ema=[average])
    assert pruner.plans == ()
    assert same_tensors(model, net())

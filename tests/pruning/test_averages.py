from typing import Any

import pytest
from torch import nn
from torch.optim.swa_utils import AveragedModel
from training_loop import X, net, same_tensors, sgd

from torchcompress import Target, prune_channels
from torchcompress.errors import CompressError
from torchcompress.pruning import ChannelPruner


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

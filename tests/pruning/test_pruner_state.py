"""A pruner stopped and started again goes on as if it had never stopped."""

import copy
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from training_loop import X, net, same_tensors, sgd, train

import torchcompress as tc
from torchcompress import Target
from torchcompress.errors import CompressError
from torchcompress.pruning import ChannelPruner, Cubic, Growing, Iterative, OneShot

HALF = Target(macs=0.5)


REGULARIZERS = [None, "bn", "group_lasso", Growing(delta=0.1, every=2)]


@pytest.mark.parametrize("regularizer", REGULARIZERS)
@pytest.mark.parametrize("stop", [1, 6])
def test_a_resumed_training_equals_one_that_never_stopped(regularizer: Any, stop: int) -> None:
    def start(state: Any = None) -> tuple[nn.Module, torch.optim.Optimizer, ChannelPruner]:
        model = net()
        pruner = ChannelPruner(
            model,
            X,
            HALF,
            schedule=Cubic(end=8, every=3),
            regularizer=regularizer,
            round_to=1,
            prove=False,
        )
        if state is not None:
            pruner.load_state_dict(state["pruner"])
            model.load_state_dict(state["model"])
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        if state is not None:
            optimizer.load_state_dict(state["optimizer"])
        return model, optimizer, pruner.attach(optimizer)

    whole, straight, _ = start()
    train(whole, [straight], 10)
    model, optimizer, pruner = start()
    train(model, [optimizer], stop)
    file = io.BytesIO()
    parts = {"model": model, "optimizer": optimizer, "pruner": pruner}
    torch.save({name: part.state_dict() for name, part in parts.items()}, file)
    file.seek(0)
    resumed, optimizer, again = start(torch.load(file, weights_only=True))
    assert again.steps == stop
    assert again.plans == pruner.plans
    train(resumed, [optimizer], 10 - stop, first=stop)
    assert same_tensors(resumed, whole)
    assert again.done
    assert tc.history(resumed) == tc.history(whole)


def test_a_state_of_another_training_is_refused() -> None:
    states = []
    for importance in ("magnitude", "random"):
        pruner = ChannelPruner(net(), X, HALF, importance=importance, round_to=1)
        pruner.attach(sgd(pruner.model))
        states.append(pruner.state_dict())
    with pytest.raises(CompressError, match="cut otherwise"):
        pruner.load_state_dict(states[0])
    pruner.load_state_dict(states[1])
    assert len(pruner.plans) == 1
    with pytest.raises(CompressError, match=r"another target than macs=0\.3"):
        ChannelPruner(net(), X, Target(macs=0.3)).load_state_dict(states[0])


def test_cuts_are_not_loaded_behind_the_back_of_an_optimizer() -> None:
    cut = net()
    state = ChannelPruner(cut, X, HALF).attach(sgd(cut)).state_dict()
    model = net()
    pruner = ChannelPruner(model, X, HALF, schedule=OneShot(5)).attach(sgd(model))
    with pytest.raises(CompressError, match="would not be cut along"):
        pruner.load_state_dict(state)
    assert same_tensors(model, net())


def test_a_state_goes_through_json() -> None:
    model = net()
    optimizer = sgd(model)
    pruner = ChannelPruner(model, X, HALF, schedule=OneShot(3), regularizer=Growing(delta=0.1))
    pruner.attach(optimizer)
    train(model, [optimizer], 1)
    twin = copy.deepcopy(model)
    pruner.close()
    again = ChannelPruner(twin, X, HALF, schedule=OneShot(3), regularizer=Growing(delta=0.1))
    again.load_state_dict(json.loads(json.dumps(pruner.state_dict())))
    optimizers = [sgd(model), sgd(twin)]
    pruner.attach(optimizers[0])
    again.attach(optimizers[1])
    train(model, optimizers[:1], 3, first=1)
    train(twin, optimizers[1:], 3, first=1)
    assert again.done
    assert same_tensors(twin, model)


def test_the_result_is_saved_and_loaded(tmp_path: Path) -> None:
    model = net()
    optimizer = sgd(model)
    ChannelPruner(model, X, HALF, schedule=Iterative(cuts=2, every=2)).attach(optimizer)
    train(model, [optimizer], 4)
    tc.save(model, tmp_path / "model.tcz")
    loaded = tc.load(tmp_path / "model.tcz", model=net())
    assert tc.history(loaded) == tc.history(model)
    assert torch.equal(loaded(X), model.eval()(X))

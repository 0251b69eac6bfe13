import copy
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from training_loop import X, kept, net, sgd, train

from torchcompress import Target
from torchcompress.core.modules import named_tensors
from torchcompress.errors import CompressError, UnsupportedError
from torchcompress.pruning import ChannelPruner, OneShot

Make = Callable[[Iterable[Tensor]], Optimizer]

OPTIMIZERS: dict[str, Make] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True, foreach=True),
    "plain": lambda p: torch.optim.SGD(p, lr=0.01),
    "fused": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, fused=True),
    "adam": lambda p: torch.optim.Adam(p, amsgrad=True, foreach=False),
    "adamw": lambda p: torch.optim.AdamW(p, foreach=True),
    "adamw-fused": lambda p: torch.optim.AdamW(p, fused=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, momentum=0.9, centered=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.01),
    "adadelta": lambda p: torch.optim.Adadelta(p),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=0.01),
    "nadam": lambda p: torch.optim.NAdam(p),
    "rprop": lambda p: torch.optim.Rprop(p),
    "asgd": lambda p: torch.optim.ASGD(p),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_a_cut_leaves_is_bit_equal_to_a_training_without_it(name: str) -> None:
    model, twin = net(), net()
    optimizer, other = (OPTIMIZERS[name](m.parameters()) for m in (model, twin))
    objects = list(model.parameters())
    pruner = ChannelPruner(model, X, Target(macs=0.5), schedule=OneShot(3), round_to=4)
    pruner.attach(optimizer)
    for one, stepped in ((model, optimizer), (twin, other)):
        train(one, [stepped], 3)
    assert len(pruner.plans) == 1
    mine, theirs = dict(model.named_parameters()), dict(twin.named_parameters())
    for tensor_name, tensor in named_tensors(model).items():
        expected = named_tensors(twin)[tensor_name]
        assert torch.equal(tensor, kept(expected, tensor_name, pruner.plans))
    for parameter_name, parameter in mine.items():
        expected = theirs[parameter_name]
        assert expected.grad is not None
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, kept(expected.grad, parameter_name, pruner.plans))
        state, reference = optimizer.state[parameter], other.state[expected]
        assert state.keys() == reference.keys()
        for key, value in reference.items():
            if isinstance(value, Tensor) and value.dim():
                value = kept(value, parameter_name, pruner.plans)
            assert torch.equal(torch.as_tensor(state[key]), torch.as_tensor(value))
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert all(a is b for a, b in zip(held, objects, strict=True))
    train(model, [optimizer], 2, first=3)
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_the_memory_format_of_moments_stays() -> None:
    model = net().to(memory_format=torch.channels_last)
    optimizer = sgd(model)
    ChannelPruner(model, X, Target(channels=0.5), schedule=OneShot(1)).attach(optimizer)
    train(model, [optimizer], 1)
    moment = optimizer.state[model.get_parameter("3.weight")]["momentum_buffer"]
    assert moment.shape == (16, 8, 3, 3)
    assert moment.is_contiguous(memory_format=torch.channels_last)


def test_several_optimizers_with_options_of_their_own() -> None:
    model = net()
    first = torch.optim.SGD(
        [
            {"params": model[0].parameters(), "lr": 0.1},
            {"params": model[1].parameters(), "weight_decay": 0.1},
        ],
        lr=0.01,
        momentum=0.9,
    )
    second = torch.optim.AdamW(model[3].parameters())
    groups = copy.deepcopy(
        [{k: v for k, v in g.items() if k != "params"} for g in first.param_groups]
    )
    pruner = ChannelPruner(model, X, Target(channels=0.5), schedule=OneShot(2))
    pruner.attach(first, second)
    train(model, [first, second], 4)
    assert pruner.done
    assert [{k: v for k, v in g.items() if k != "params"} for g in first.param_groups] == groups
    assert first.state[model.get_parameter("0.weight")]["momentum_buffer"].shape == (8, 3, 3, 3)
    assert second.state[model.get_parameter("3.weight")]["exp_avg"].shape == (16, 8, 3, 3)
    assert model.get_parameter("8.weight").shape == (4, 16)


class _Blocks(torch.optim.SGD):
    """Keeps a state in blocks of its own, as 8-bit optimizers do."""

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter]["blocks"] = torch.zeros(7)
        return super().step(closure)


def test_a_state_that_cannot_be_cut_is_refused_before_anything_changes() -> None:
    model = net()
    optimizer = _Blocks(model.parameters(), lr=0.01)
    pruner = ChannelPruner(model, X, Target(channels=0.5), schedule=OneShot(1)).attach(optimizer)
    with pytest.raises(UnsupportedError, match="'blocks'"):
        train(model, [optimizer], 1)
    assert pruner.plans == ()
    assert [p.shape for p in model.parameters()] == [p.shape for p in net().parameters()]


def _pruner() -> ChannelPruner:
    return ChannelPruner(net(), X, Target(channels=0.5), schedule=OneShot(1))


@pytest.mark.parametrize(
    ("optimizers", "message"),
    [
        ([], "no optimizer"),
        ([object()], "object is no torch optimizer"),
        ([sgd(nn.Linear(2, 2))], "SGD holds no parameter of the model"),
    ],
)
def test_optimizers_that_cannot_be_counted_are_refused(optimizers: Any, message: str) -> None:
    with pytest.raises(CompressError, match=message):
        _pruner().attach(*optimizers)


def test_an_optimizer_with_one_flat_history_is_refused() -> None:
    pruner = _pruner()
    with pytest.raises(UnsupportedError, match="LBFGS keeps one flat history"):
        pruner.attach(torch.optim.LBFGS(pruner.model.parameters()))

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from training_loop import batches, net, same_tensors, sgd, train

import torchcompress as tc
from torchcompress import Target
from torchcompress.errors import CompressError
from torchcompress.pruning import Cubic, Iterative, MagnitudePruner, OneShot

CONV = "3.weight"
COUNTED = 16 * 3 * 9 + 32 * 16 * 9 + 4 * 32

OPTIMIZERS: dict[str, Callable[[list[nn.Parameter]], Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, weight_decay=0.01, nesterov=True),
    "sgd fused": lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, fused=True),
    "adam": lambda p: torch.optim.Adam(p, 0.01, weight_decay=0.01),
    "adam foreach": lambda p: torch.optim.Adam(p, 0.01, foreach=True, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1),
    "adamw fused": lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1, fused=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 0.001, momentum=0.9, centered=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, 0.01),
    "adadelta": lambda p: torch.optim.Adadelta(p),
    "adamax": lambda p: torch.optim.Adamax(p),
    "nadam": lambda p: torch.optim.NAdam(p),
    "radam": lambda p: torch.optim.RAdam(p),
    "rprop": lambda p: torch.optim.Rprop(p, 0.001),
    "asgd": lambda p: torch.optim.ASGD(p),
}


def conv(model: nn.Module) -> Tensor:
    return model.get_parameter(CONV).detach()


def smallest(weight: Tensor, count: int) -> np.ndarray:
    """Returns where the smallest magnitudes are, by a full sort."""
    order = np.argsort(np.abs(weight.numpy().ravel()), kind="stable")
    mask = np.zeros(weight.numel(), bool)
    mask[order[:count]] = True
    return mask.reshape(weight.shape)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_after_100_steps_the_zeros_are_exactly_those_of_the_masks(name: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))
    x, y = torch.randn(5, 6), torch.randn(5, 3)
    optimizer = OPTIMIZERS[name](list(model.parameters()))

    def steps(count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            (model(x) - y).square().mean().backward()
            optimizer.step()

    steps(3)  # Momentum that points away from zero exists before the weights go.
    weights = {name: model.get_parameter(name).detach() for name in ("0.weight", "2.weight")}
    together = torch.cat([weight.flatten() for weight in weights.values()])
    gone = smallest(together, int(np.ceil(0.5 * (48 + 64 + 24))))
    keys = list(model.state_dict())
    pruner = MagnitudePruner(model, Target(sparsity=0.5)).attach(optimizer)
    steps(100)
    zeros = torch.cat([weight.flatten() for weight in weights.values()]) == 0
    assert np.array_equal(zeros.numpy(), gone)
    assert not (model.get_parameter("4.weight") == 0).any()
    assert list(model.state_dict()) == keys
    plan = pruner.finalize()
    assert all(torch.equal(plan.kept[name], weight != 0) for name, weight in weights.items())
    assert tc.history(model) == (plan,)
    assert plan.sparsity == gone.sum() / 136
    assert pruner.finalize() is plan
    assert not optimizer._optimizer_step_post_hooks
    assert not optimizer._optimizer_step_pre_hooks


def test_lbfgs_calls_its_closure_and_the_zeros_hold() -> None:
    model = net()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.01, max_iter=3)
    pruner = MagnitudePruner(model, Target(sparsity=0.5)).attach(optimizer)
    for images, labels in batches(3):

        def closure(images: Tensor = images, labels: Tensor = labels) -> Tensor:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images), labels)
            loss.backward()
            return loss

        optimizer.step(closure)  # pyright: ignore[reportArgumentType]
    assert torch.equal(conv(model) != 0, pruner.kept[CONV])


def test_the_cubic_schedule_is_followed_step_by_step() -> None:
    model = net()
    optimizer = sgd(model)
    schedule = Cubic(begin=2, end=12, every=3)
    pruner = MagnitudePruner(model, Target(sparsity=0.8), schedule=schedule).attach(optimizer)
    before = conv(model) == 0
    for step in range(1, 16):
        train(model, [optimizer], 1, first=step)
        moved = min(max(step - 2, 0) // 3 * 3, 10) if step < 12 else 10
        share = 0.8 * (1 - (1 - moved / 10) ** 3)
        zeros = conv(model) == 0
        assert int(zeros.sum()) == int(np.ceil(share * COUNTED - 1e-6))
        assert not (before & ~zeros).any()
        before = zeros
        assert pruner.done == (step >= 12)
    text = pruner.table()
    assert f"{int(before.sum()):12,}" in text
    assert "first convolution" in text


def test_a_function_is_a_schedule_and_gradients_may_accumulate() -> None:
    model = net()
    optimizer = sgd(model)
    pruner = MagnitudePruner(model, Target(sparsity=0.5), schedule=lambda step: step / 4)
    pruner.attach(optimizer)
    for micro in range(8):
        images, labels = next(batches(1, micro))
        nn.functional.cross_entropy(model(images), labels).backward()
        if micro % 2:
            optimizer.step()
            optimizer.zero_grad()
        assert pruner.steps == (micro + 1) // 2
        share = 0.5 * pruner.steps / 4
        assert int((conv(model) == 0).sum()) == int(np.ceil(share * COUNTED))
    pruner.finalize()


@pytest.mark.parametrize("fused", [False, True])
def test_a_step_that_a_scaler_skips_is_not_counted(fused: bool) -> None:
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), 0.01, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    schedule = Iterative(cuts=4, every=1, begin=1)
    pruner = MagnitudePruner(model, Target(sparsity=0.8), schedule=schedule).attach(optimizer)
    counts = []
    for index, (images, labels) in enumerate(batches(6)):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), labels)
        scaler.scale(loss * (float("inf") if index in (1, 3) else 1)).backward()
        scaler.step(optimizer)
        scaler.update()
        counts.append(pruner.steps)
    assert counts == [1, 1, 2, 2, 3, 4]
    assert pruner.done
    assert int((conv(model) == 0).sum()) == int(np.ceil(0.8 * COUNTED))


@pytest.mark.parametrize("stop", [1, 5, 9])
def test_a_training_that_is_resumed_is_bit_equal(stop: int) -> None:
    def begin() -> tuple[nn.Sequential, torch.optim.AdamW, MagnitudePruner]:
        model = net()
        schedule = Cubic(begin=1, end=7, every=2)
        return (
            model,
            torch.optim.AdamW(model.parameters(), 0.01),
            MagnitudePruner(model, Target(sparsity=0.8), schedule=schedule),
        )

    whole, whole_optimizer, whole_pruner = begin()
    whole_pruner.attach(whole_optimizer)
    train(whole, [whole_optimizer], 12)
    half, half_optimizer, half_pruner = begin()
    half_pruner.attach(half_optimizer)
    train(half, [half_optimizer], stop)
    states = copy.deepcopy(
        [half.state_dict(), half_optimizer.state_dict(), half_pruner.state_dict()]
    )
    train(half, [half_optimizer], 3, first=stop)
    model, optimizer, pruner = begin()
    model.load_state_dict(states[0])
    optimizer.load_state_dict(states[1])
    pruner.load_state_dict(states[2])
    pruner.attach(optimizer)
    train(model, [optimizer], 12 - stop, first=stop)
    assert same_tensors(model, whole)
    assert pruner.finalize() == whole_pruner.finalize()


def test_the_model_can_be_copied_at_any_moment() -> None:
    model = net()
    optimizer = sgd(model)
    pruner = MagnitudePruner(model, Target(sparsity=0.8), schedule=OneShot(2)).attach(optimizer)
    for step in range(4):
        twin = copy.deepcopy(model)
        assert same_tensors(twin, model)
        train(twin, [sgd(twin)], 1, first=step)
        train(model, [optimizer], 1, first=step)
    plan = pruner.finalize()
    assert tc.history(copy.deepcopy(model)) == (plan,)


def test_sparsity_given_twice_is_given_once() -> None:
    model = net()
    first = MagnitudePruner(model, Target(sparsity=0.8)).finalize()
    second = MagnitudePruner(model, Target(sparsity=0.8)).finalize()
    assert second.zeros == first.zeros
    assert torch.equal(second.kept[CONV], first.kept[CONV])
    for scope in ("layer", "erk", "lamp"):
        again = MagnitudePruner(model, Target(sparsity=0.8), scope=scope).finalize()
        assert again.zeros == first.zeros
    forgetful = net()
    forgetful.load_state_dict(model.state_dict())
    assert MagnitudePruner(forgetful, Target(sparsity=0.8)).finalize().zeros == first.zeros


def test_zeros_of_layers_that_are_spared_now_count_and_hold() -> None:
    model = net()
    MagnitudePruner(model, Target(sparsity=0.5), keep_ends=False, scope="layer").finalize()
    ends = {name: model.get_parameter(name).detach() == 0 for name in ("0.weight", "8.weight")}
    optimizer = sgd(model)
    train(model, [optimizer], 1)
    for name, zeros in ends.items():
        assert model.get_parameter(name)[zeros].any()
        model.get_parameter(name).data[zeros] = 0
    model.get_parameter(CONV).data[~tc.history(model)[0].kept[CONV]] = 0  # pyright: ignore
    pruner = MagnitudePruner(model, Target(sparsity=0.8)).attach(optimizer)
    train(model, [optimizer], 3)
    total = 0
    for name in (*ends, CONV):
        zeros = model.get_parameter(name) == 0
        total += int(zeros.sum())
        assert name == CONV or torch.equal(zeros, ends[name])
    assert total == int(np.ceil(0.8 * COUNTED))
    assert pruner.finalize().sparsity == total / COUNTED


def test_averages_have_the_same_zeros() -> None:
    model = net()
    optimizer = sgd(model)
    averages = [AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9)) for _ in range(2)]
    plain = copy.deepcopy(model)
    schedule = Iterative(cuts=2, every=2, begin=2)
    pruner = MagnitudePruner(model, Target(sparsity=0.8), schedule=schedule)
    pruner.attach(optimizer, ema=[averages[0], plain])
    for step in range(6):
        train(model, [optimizer], 1, first=step)
        for average in averages:
            average.update_parameters(model)
    assert torch.equal(conv(averages[0].module) == 0, conv(model) == 0)
    assert torch.equal(conv(plain) == 0, conv(model) == 0)
    assert int((conv(averages[1].module) == 0).sum()) < int((conv(model) == 0).sum())


def test_several_optimizers_train_and_the_first_counts() -> None:
    model = net()
    split = [sgd(nn.ModuleList([model[0], model[3]])), torch.optim.Adam(model[8].parameters())]
    pruner = MagnitudePruner(model, Target(sparsity=0.6), keep_ends=False, scope="layer")
    pruner.attach(*reversed(split))
    train(model, split, 3)
    assert pruner.steps == 3
    for name in ("0.weight", CONV, "8.weight"):
        assert torch.equal(model.get_parameter(name) != 0, pruner.kept[name])


def test_a_threshold_takes_what_is_below_it() -> None:
    model = net()
    weight = conv(model).clone()
    plan = MagnitudePruner(model, 0.05).finalize()
    assert torch.equal(plan.kept[CONV], weight.abs() >= 0.05)
    assert plan.target == "threshold=0.05"
    again = MagnitudePruner(model, 0.05).finalize()
    assert again.zeros == plan.zeros
    model = net()
    thresholds = {"*": 0.03, "8": 0.1}
    plan = MagnitudePruner(model, thresholds, keep_ends=False).finalize()
    fresh = net()
    for name, threshold in {"0.weight": 0.03, CONV: 0.03, "8.weight": 0.1}.items():
        wanted = fresh.get_parameter(name).abs() >= threshold
        assert torch.equal(plan.kept.get(name, torch.ones_like(wanted)), wanted)


def test_a_threshold_rises_with_the_schedule() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    schedule = Iterative(cuts=4, every=1, begin=1)
    weight = conv(model).clone()
    MagnitudePruner(model, 0.06, schedule=schedule).attach(optimizer)
    for step in range(1, 5):
        train(model, [optimizer], 1)
        assert torch.equal(conv(model) != 0, weight.abs() >= 0.06 * step / 4)


def test_a_threshold_of_no_use_says_which_would_be() -> None:
    low, high = (float(value) for value in conv(net()).abs().aminmax())
    for threshold, what in ((high * 1.1, "takes all of 3.weight"), (low * 0.9, "takes nothing")):
        with pytest.raises(CompressError, match=what) as caught:
            MagnitudePruner(net(), threshold)
        assert f"above {low:.4g} and up to {high:.4g}" in str(caught.value)
    MagnitudePruner(net(), high).finalize()
    with pytest.raises(CompressError, match=r"takes all of 8\.weight"):
        MagnitudePruner(net(), {"8": 9.0, CONV: 0.01}, keep_ends=False)


def test_channels_that_are_cut_meanwhile_are_noticed() -> None:
    model = net()
    optimizer = sgd(model)
    MagnitudePruner(model, Target(sparsity=0.5)).attach(optimizer)
    x = torch.randn(1, 3, 8, 8)
    tc.plan_channels(model, x, Target(channels=0.5)).apply(model, inplace=True)
    with pytest.raises(CompressError, match="its mask"):
        train(model, [optimizer], 1)


def test_a_compiled_model_in_half_precision_is_pruned() -> None:
    model = net().to(torch.bfloat16)
    compiled = torch.compile(model, backend="eager")
    plan = MagnitudePruner(compiled, Target(sparsity=0.8)).finalize()  # pyright: ignore
    assert int((conv(model) == 0).sum()) == plan.zeros[CONV] == int(np.ceil(0.8 * COUNTED))
    assert conv(model).dtype == torch.bfloat16

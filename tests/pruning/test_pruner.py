import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from training_loop import X, batches, kept, net, same_tensors, sgd, train

import torchcompress as tc
from torchcompress import Target, plan_channels, prune_channels
from torchcompress.core.modules import named_tensors
from torchcompress.errors import CompressError, TargetUnreachable
from torchcompress.pruning import ChannelPruner, Cubic, Growing, Iterative, OneShot

HALF = Target(macs=0.5)


def test_one_shot_before_the_first_step_equals_prune_channels() -> None:
    model = net()
    pruner = ChannelPruner(model, X, HALF, round_to=4).attach(sgd(model))
    assert same_tensors(model, prune_channels(net(), X, HALF, round_to=4))
    assert (pruner.steps, pruner.done, len(pruner.plans)) == (0, True, 1)
    assert tc.history(model) == pruner.plans


@pytest.mark.parametrize(
    "schedule", [Cubic(end=9, every=2), Iterative(cuts=3, every=2), lambda step: min(step / 7, 1)]
)
@pytest.mark.parametrize("target", [HALF, Target(params=0.4), Target(macs=60_000)])
def test_a_gradual_schedule_ends_at_the_target(
    schedule: Callable[[int], float], target: Target
) -> None:
    model = net()
    optimizer = sgd(model)
    pruner = ChannelPruner(model, X, target, schedule=schedule, round_to=1).attach(optimizer)
    whole = plan_channels(net(), X, target, round_to=1)
    cost = {"macs": whole.macs, "params": whole.params}[target.quantity]
    limit = target.absolute(cost[0])
    for step in range(10):
        left = pruner.remaining()[target.quantity]
        assert left <= cost[0] - schedule(step) * (cost[0] - limit) + 1e-6
        train(model, [optimizer], 1, first=step)
    assert pruner.done
    assert len(pruner.plans) > 1
    assert 0.98 * limit - 0.02 * cost[0] < pruner.remaining()[target.quantity] <= limit
    assert model(X).shape == (2, 4)


def test_fractions_are_of_the_model_as_it_was() -> None:
    model = net()
    optimizer = sgd(model)
    schedule = Iterative(cuts=5, every=1)
    pruner = ChannelPruner(
        model, X, Target(channels=0.25), schedule=schedule, ratios={"0": 0.5}, round_to=4
    )
    pruner.attach(optimizer)
    widths = [(model.get_parameter("0.weight").shape[0], model.get_parameter("3.weight").shape[0])]
    for step in range(4):
        train(model, [optimizer], 1, first=step)
        widths.append(
            (model.get_parameter("0.weight").shape[0], model.get_parameter("3.weight").shape[0])
        )
    assert widths == [(12, 28), (12, 20), (8, 16), (8, 8), (8, 4)]


def test_a_later_plan_can_be_about_the_model_before_the_first() -> None:
    whole = net()
    first = prune_channels(whole, X, Target(channels=0.6), round_to=8)
    (plan,) = tc.history(first)
    assert isinstance(plan, tc.PruningPlan)
    assert [g.kept for g in plan.groups if not g.frozen] == [8, 16]
    fractions_of_before = plan_channels(first, X, Target(channels=0.5), since=plan)
    assert fractions_of_before.removed == {}
    limit = plan.macs[0] * 0.3
    with pytest.raises(CompressError, match=r"of another model: 0\.weight is"):
        plan_channels(nn.Sequential(nn.Conv2d(3, 16, 5)), X, Target(macs=0.3), since=plan)
    again = plan_channels(first, X, Target(macs=0.3), since=plan, round_to=1)
    assert 0.8 * limit < again.macs[1] <= limit


def test_the_way_can_begin_before_an_earlier_cut() -> None:
    model = prune_channels(net(), X, Target(channels=0.75))
    (plan,) = tc.history(model)
    assert isinstance(plan, tc.PruningPlan)
    optimizer = sgd(model)
    schedule = Iterative(cuts=4, every=1)
    pruner = ChannelPruner(model, X, Target(channels=0.25), schedule=schedule, since=plan)
    pruner.attach(optimizer)
    train(model, [optimizer], 3)
    targets = [cut.target for cut in pruner.plans]
    assert targets == ["channels=0.625", "channels=0.4375", "channels=0.25"]
    assert len(model.get_parameter("3.weight")) == 8


def test_a_cap_is_a_fraction_of_the_model_as_it_was() -> None:
    model = net()
    optimizer = sgd(model)
    schedule = Iterative(cuts=3, every=1)
    with pytest.raises(TargetUnreachable):
        ChannelPruner(model, X, Target(params=0.2), schedule=schedule, max_removed=0.5)
    pruner = ChannelPruner(model, X, Target(params=0.3), schedule=schedule, max_removed=0.5)
    pruner.attach(optimizer)
    train(model, [optimizer], 3)
    assert pruner.done
    assert (model.get_parameter("0.weight").shape[0], len(model.get_parameter("3.weight"))) == (
        8,
        16,
    )


def test_the_schedule_counts_optimizer_steps_under_accumulation() -> None:
    model = net()
    optimizer = sgd(model)
    pruner = ChannelPruner(model, X, HALF, schedule=OneShot(3)).attach(optimizer)
    for index, (images, labels) in enumerate(batches(8)):
        nn.functional.cross_entropy(model(images), labels).backward()
        if index % 2:
            assert pruner.done == (index > 6)
            optimizer.step()
            optimizer.zero_grad(set_to_none=index % 4 == 1)
    assert (pruner.steps, pruner.done) == (4, True)


@pytest.mark.parametrize("fused", [False, True])
def test_a_step_that_a_grad_scaler_skips_does_not_count(fused: bool) -> None:
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), fused=fused)
    pruner = ChannelPruner(model, X, HALF, schedule=OneShot(2), round_to=1).attach(optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    for index, factor in enumerate((1.0, float("inf"), float("inf"), 1.0)):
        optimizer.zero_grad()
        scaler.scale(model(X).square().sum() * factor).backward()
        scaler.step(optimizer)
        scaler.update()
        assert pruner.steps == (1, 1, 1, 2)[index]
        assert pruner.done == (index == 3)
    assert all(parameter.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("use_buffers", [False, True])
def test_averages_are_cut_along(use_buffers: bool) -> None:
    model, twin = net(), net()
    averages = [
        AveragedModel(m, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=use_buffers)
        for m in (model, twin)
    ]
    plain = copy.deepcopy(model)
    optimizers = [sgd(model), sgd(twin)]
    pruner = ChannelPruner(model, X, HALF, schedule=OneShot(3), round_to=4)
    pruner.attach(optimizers[0], ema=[averages[0], plain])
    for index in range(3):
        for one, optimizer, average in zip((model, twin), optimizers, averages, strict=True):
            train(one, [optimizer], 1, first=index)
            if index < 2:
                average.update_parameters(one)
    expected = named_tensors(averages[1].module)
    for name, mean in named_tensors(averages[0].module).items():
        assert torch.equal(mean, kept(expected[name], name, pruner.plans))
    averages[0].update_parameters(model)
    assert averages[0](X).shape == (2, 4)
    assert tc.history(plain) == pruner.plans


def test_excluded_layers_of_a_generator_stay_in_every_cut() -> None:
    model = net()
    optimizer = sgd(model)
    pruner = ChannelPruner(
        model,
        X,
        Target(macs=0.6),
        schedule=Iterative(cuts=2, every=1),
        exclude=(name for name in ("0",)),
    )
    pruner.attach(optimizer)
    train(model, [optimizer], 2)
    assert pruner.done
    assert len(model.get_parameter("0.weight")) == 16


def test_an_attached_model_is_copied_and_pickled() -> None:
    model = net()
    ChannelPruner(model, X, HALF).attach(sgd(model))
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for other in (copy.deepcopy(model), torch.load(file, weights_only=False)):
        assert same_tensors(other, model)
        assert tc.history(other) == tc.history(model)


def test_closed_it_leaves_the_training_alone() -> None:
    model = net()
    optimizer = sgd(model)
    pruner = ChannelPruner(model, X, HALF, schedule=OneShot(2), regularizer="group_lasso").attach(
        optimizer
    )
    train(model, [optimizer], 1)
    pruner.close()
    train(model, [optimizer], 3)
    assert (pruner.steps, pruner.plans) == (1, ())
    assert not model._forward_pre_hooks
    pruner.attach(optimizer)
    train(model, [optimizer], 1)
    assert pruner.done


def test_planning_leaves_the_training_undisturbed() -> None:
    model, twin = net(), net()
    optimizers = [sgd(model), sgd(twin)]
    never = ChannelPruner(model, X, HALF, schedule=OneShot(99), regularizer=Growing(delta=1e-30))
    never.attach(optimizers[0])
    model.train()
    state = torch.get_rng_state()
    for one, optimizer in zip((model, twin), optimizers, strict=True):
        train(one, [optimizer], 3)
    assert same_tensors(model, twin)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("importance", ["taylor", "variance"])
def test_importances_that_run_the_model_keep_its_gradients(importance: str) -> None:
    model, twin = net(), net()
    optimizers = [sgd(model), sgd(twin)]
    pruner = ChannelPruner(
        model, X, HALF, schedule=OneShot(2), importance=importance, data=list(batches(2))
    )
    pruner.attach(optimizers[0])
    for one, optimizer in zip((model, twin), optimizers, strict=True):
        train(one, [optimizer], 2)
    for (name, mine), theirs in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert mine.grad is not None
        assert theirs.grad is not None
        assert torch.equal(mine.grad, kept(theirs.grad, name, pruner.plans))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": Target(macs=1.0)}, "takes nothing away"),
        ({"target": Target(macs=0.0001)}, "at least"),
        ({"target": Target(latency=0.5)}, "cannot cut towards latency=0.5"),
        ({"regularizer": "bn"}, "no step to act in"),
        ({"schedule": lambda step: 2.0}, "gives 2.0 at step 0"),
        ({"data": iter([]), "importance": "taylor"}, "only the first plan could read"),
        ({"exclude": "stem"}, "is one string"),
        ({"regularizer": 3}, "3 is not a regularizer"),
        ({"schedule": "cubic"}, "'cubic' is not a schedule"),
        ({"exclude": ["nothing"]}, "'nothing' matches nothing"),
    ],
)
def test_what_could_have_no_effect_is_refused_at_once(
    options: dict[str, Any], message: str
) -> None:
    model = net()
    arguments: dict[str, Any] = {"target": HALF, **options}
    with pytest.raises(CompressError, match=message):
        ChannelPruner(model, X, **arguments).attach(sgd(model))


def test_it_is_attached_once() -> None:
    model = net()
    pruner = ChannelPruner(model, X, HALF, schedule=OneShot(5)).attach(sgd(model))
    with pytest.raises(CompressError, match="attached already"):
        pruner.attach(sgd(model))

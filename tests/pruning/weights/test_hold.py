import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from training_loop import X, batches, net, same_tensors, sgd, train

import torchcompress as tc
from torchcompress import Target, Trainer, TrainerConfig
from torchcompress.distillation import DistillationTrainer
from torchcompress.errors import CompressError
from torchcompress.pruning import HoldZeros, MagnitudePruner, RigL
from torchcompress.training import Callback, Run

CONV = "3.weight"
BATCHES = list(batches(4))
CONFIG = TrainerConfig(epochs=2, lr=0.05, ema_decay=0.5, amp="bf16")


def sparse() -> nn.Sequential:
    model = net()
    MagnitudePruner(model, Target(sparsity=0.8)).finalize()
    return model


def zeros(model: nn.Module, name: str = CONV) -> torch.Tensor:
    return model.get_parameter(name).detach() == 0


def test_the_zeros_of_a_plan_hold_in_a_loop_of_ones_own() -> None:
    model = sparse()
    before = zeros(model)
    average = AveragedModel(net(), multi_avg_fn=get_ema_multi_avg_fn(0.5))
    optimizer = sgd(model)
    hold = HoldZeros(model).attach(optimizer, ema=average)
    for step in range(5):
        train(model, [optimizer], 1, first=step)
        average.update_parameters(model)
    assert torch.equal(zeros(model), before)
    assert torch.equal(zeros(average.module), before)
    with pytest.raises(CompressError, match="attached already"):
        hold.attach(optimizer)
    hold.close()
    train(model, [optimizer], 1)
    assert not zeros(model).any()
    assert not optimizer._optimizer_step_post_hooks


def test_a_model_without_a_plan_has_nothing_to_hold() -> None:
    with pytest.raises(CompressError, match="no SparsityPlan"):
        HoldZeros(net())


def by_trainer(model: nn.Module) -> None:
    Trainer(model, BATCHES, BATCHES, CONFIG).fit()


def by_distillation(model: nn.Module) -> None:
    DistillationTrainer(model, net(), BATCHES, BATCHES, CONFIG).fit()


@pytest.mark.parametrize("fit", [by_trainer, by_distillation])
def test_a_trainer_holds_them_by_itself(fit: Callable[[nn.Module], None]) -> None:
    model = sparse()
    before, weight = zeros(model), model.get_parameter(CONV).detach().clone()
    fit(model)
    assert torch.equal(zeros(model), before)
    assert not torch.equal(model.get_parameter(CONV), weight)
    other = copy.deepcopy(model)
    other.__dict__.pop("_torchcompress_history")
    fit(other)
    assert not zeros(other).any()


def test_zeros_of_a_part_hold_too() -> None:
    class Wrapped(nn.Module):
        def __init__(self, body: nn.Module) -> None:
            super().__init__()
            self.body = body

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * self.body(x)

    model = Wrapped(sparse())
    before = zeros(model, f"body.{CONV}")
    by_trainer(model)
    assert torch.equal(zeros(model, f"body.{CONV}"), before)


def test_zeros_hold_after_channels_were_cut() -> None:
    model = sparse()
    cut = tc.prune_channels(model, X, Target(channels=0.5), round_to=1)
    plan = tc.history(cut)[1]
    assert isinstance(plan, tc.PruningPlan)
    before = zeros(model)
    for dim, gone in plan.removed[CONV].items():
        left = [i for i in range(before.shape[dim]) if i not in gone]
        before = before.index_select(dim, torch.tensor(left))
    assert torch.equal(zeros(cut), before)
    by_trainer(cut)
    assert torch.equal(zeros(cut), before)
    assert before.any()


class Stop(Callback):
    def on_epoch_start(self, run: Run) -> None:
        if run.epoch == 1:
            raise KeyboardInterrupt


def test_a_resumed_training_holds_the_same_zeros(tmp_path: Path) -> None:
    whole, half, resumed = sparse(), sparse(), sparse()
    Trainer(whole, BATCHES, config=CONFIG, callbacks=[Callback()]).fit()
    path = tmp_path / "run.pt"
    with pytest.raises(KeyboardInterrupt):
        Trainer(half, BATCHES, config=CONFIG, callbacks=[Stop()], checkpoint=path).fit()
    resumed.get_parameter(CONV).data.fill_(0)
    callbacks = [type("Stop", (Callback,), {})()]
    Trainer(
        resumed, BATCHES, config=CONFIG, callbacks=callbacks, checkpoint=path, resume=True
    ).fit()
    assert same_tensors(resumed, whole)


def test_a_pruner_that_regrows_takes_over() -> None:
    model = sparse()
    before = zeros(model)
    pruner = MagnitudePruner(model, Target(sparsity=0.8), growth=RigL(every=2, end=8))
    Trainer(model, BATCHES, config=CONFIG, callbacks=[pruner]).fit()
    after = zeros(model)
    assert int(after.sum()) == int(before.sum())
    assert not torch.equal(after, before)
    plan = tc.history(model)[1]
    assert isinstance(plan, tc.SparsityPlan)
    assert torch.equal(plan.kept[CONV], ~after)

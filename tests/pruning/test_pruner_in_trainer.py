from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from training_loop import X, batches, kept, net, same_tensors

import torchcompress as tc
from torchcompress import Target, Trainer, TrainerConfig
from torchcompress.core.modules import named_tensors
from torchcompress.distillation import DistillationTrainer
from torchcompress.errors import ArtifactError, CompressError
from torchcompress.pruning import ChannelPruner, Cubic, Growing, OneShot
from torchcompress.training import EMA, Callback, Run

BATCHES = list(batches(4))
CONFIG = TrainerConfig(epochs=4, lr=0.05, ema_decay=0.9, clip_norm=1.0, amp="bf16")


def pruner(model: nn.Module, **options: Any) -> ChannelPruner:
    keywords = {"schedule": Cubic(end=12, every=3), "round_to": 1, "prove": False, **options}
    return ChannelPruner(model, X, Target(macs=0.5), **keywords)


class Stop(Exception):
    """Stands for the power cut."""


class StopAt(Callback):
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_epoch_start(self, run: Run) -> None:
        if run.epoch == self.epoch:
            raise Stop


@pytest.mark.parametrize(("optimizer", "stop"), [("sgd", 1), ("adamw", 2), ("sgd", 3)])
def test_a_training_with_cuts_resumes_bit_for_bit(
    tmp_path: Path, optimizer: str, stop: int
) -> None:
    config = TrainerConfig(**{**CONFIG.__dict__, "optimizer": optimizer})
    whole, halved, resumed = net(), net(), net()
    regularizer = Growing(delta=0.01)
    cuts = pruner(whole, regularizer=regularizer)
    Trainer(whole, BATCHES, BATCHES, config, callbacks=[cuts, StopAt(9)]).fit()
    assert cuts.done
    assert len(cuts.plans) == 3
    path = tmp_path / "run.pt"
    callbacks = [pruner(halved, regularizer=regularizer), StopAt(stop)]
    with pytest.raises(Stop):
        Trainer(halved, BATCHES, BATCHES, config, callbacks=callbacks, checkpoint=path).fit()
    nn.init.zeros_(resumed.get_parameter("8.bias"))
    callbacks = [pruner(resumed, regularizer=regularizer), StopAt(9)]
    Trainer(
        resumed, BATCHES, BATCHES, config, callbacks=callbacks, checkpoint=path, resume=True
    ).fit()
    assert same_tensors(resumed, whole)
    assert tc.history(resumed) == tc.history(whole)


def test_the_running_mean_is_cut_along() -> None:
    config = TrainerConfig(epochs=1, ema_decay=0.5, channels_last=False)
    model, twin = net(), net()
    cuts = pruner(model, schedule=OneShot(4))
    means: list[dict[str, torch.Tensor]] = []

    class Keep(Callback):
        def on_epoch_end(self, run: Run) -> None:
            (ema,) = (c for c in run.callbacks if isinstance(c, EMA))
            means.append(ema.state_dict()["mean"])

    Trainer(model, BATCHES[:4], config=config, callbacks=[cuts, Keep()]).fit()
    Trainer(twin, BATCHES[:4], config=config, callbacks=[Keep()]).fit()
    left, whole = means
    # The last step is averaged after the cut, along with the cut weights.
    assert left.keys() == named_tensors(model).keys()
    for name, mean in left.items():
        assert torch.equal(mean, kept(whole[name], name, cuts.plans))


def test_a_cut_before_the_first_step_equals_training_the_pruned_model() -> None:
    model = net()
    Trainer(model, BATCHES, config=CONFIG, callbacks=[pruner(model, schedule=OneShot())]).fit()
    pruned = tc.prune_channels(net(), X, Target(macs=0.5), round_to=1)
    Trainer(pruned, BATCHES, config=CONFIG).fit()
    assert same_tensors(model, pruned)


def test_a_distilled_student_is_cut_too() -> None:
    model, teacher = net(), net()
    cuts = pruner(model)
    DistillationTrainer(model, teacher, BATCHES, config=CONFIG, callbacks=[cuts]).fit()
    assert cuts.done
    assert same_tensors(teacher, net())


def test_what_cannot_reach_the_target_is_refused_before_training() -> None:
    model = net()
    late = pruner(model, schedule=Cubic(end=17, every=1))
    with pytest.raises(CompressError, match="% of the way when the training ends, after 16 steps"):
        Trainer(model, BATCHES, config=CONFIG, callbacks=[late]).fit()
    with pytest.raises(CompressError, match="another model"):
        Trainer(net(), BATCHES, config=CONFIG, callbacks=[pruner(model)]).fit()
    assert same_tensors(model, net())


def test_steps_that_were_not_taken_are_missed_at_the_end() -> None:
    model = net()
    single = [*BATCHES[:3], (BATCHES[3][0][:1], BATCHES[3][1][:1])]
    cuts = pruner(model, schedule=OneShot(16))
    with pytest.raises(CompressError, match="0 % of the way when the training ends, after 12"):
        Trainer(model, single, config=CONFIG, callbacks=[cuts]).fit()


def test_a_checkpoint_of_other_cuts_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    path, model = tmp_path / "run.pt", net()
    Trainer(model, BATCHES, config=CONFIG, callbacks=[pruner(model)], checkpoint=path).fit()
    wide = net()
    wide[0], wide[1] = nn.Conv2d(3, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24)
    wide[3] = nn.Conv2d(24, 32, 3, padding=1)
    before = {name: tensor.clone() for name, tensor in wide.state_dict().items()}
    with pytest.raises(ArtifactError, match="of another model"):
        Trainer(
            wide, BATCHES, config=CONFIG, callbacks=[pruner(wide)], checkpoint=path, resume=True
        ).fit()
    assert all(torch.equal(t, before[n]) for n, t in wide.state_dict().items())

from pathlib import Path

import pytest
import torch
from torch import nn
from training_loop import batches, net, same_tensors

import torchcompress as tc
from torchcompress import Target, Trainer, TrainerConfig
from torchcompress.errors import CompressError
from torchcompress.pruning import Cubic, MagnitudePruner, OneShot
from torchcompress.training import Callback, CSVLog, Run, TrainingResult

CONV = "3.weight"
BATCHES = list(batches(4))
CONFIG = TrainerConfig(epochs=4, lr=0.05, ema_decay=0.9, clip_norm=1.0, amp="bf16")


def pruner(model: nn.Module, **options: object) -> MagnitudePruner:
    keywords = {"schedule": Cubic(end=12, every=3), **options}
    return MagnitudePruner(model, Target(sparsity=0.8), **keywords)  # pyright: ignore


class Named(Callback):
    """Stops at the beginning of an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_epoch_start(self, run: Run) -> None:
        if run.epoch == self.epoch:
            raise KeyboardInterrupt


@pytest.mark.parametrize(("optimizer", "stop"), [("sgd", 1), ("adamw", 2), ("sgd", 3)])
@pytest.mark.parametrize("importance", ["magnitude", "movement"])
def test_a_training_with_masks_resumes_bit_for_bit(
    tmp_path: Path, optimizer: str, stop: int, importance: str
) -> None:
    config = TrainerConfig(**{**CONFIG.__dict__, "optimizer": optimizer})
    options = {"importance": importance, "schedule": Cubic(begin=1, end=12, every=3)}
    whole, halved, resumed = net(), net(), net()
    masks = pruner(whole, **options)
    Trainer(whole, BATCHES, BATCHES, config, callbacks=[masks, Named(9)]).fit()
    path = tmp_path / "run.pt"
    with pytest.raises(KeyboardInterrupt):
        Trainer(
            halved,
            BATCHES,
            BATCHES,
            config,
            callbacks=[pruner(halved, **options), Named(stop)],
            checkpoint=path,
        ).fit()
    Trainer(
        resumed,
        BATCHES,
        BATCHES,
        config,
        callbacks=[pruner(resumed, **options), Named(9)],
        checkpoint=path,
        resume=True,
    ).fit()
    assert same_tensors(resumed, whole)
    assert tc.history(resumed) == tc.history(whole) == (masks.finalize(),)
    zeros = whole.get_parameter(CONV) == 0
    assert int(zeros.sum()) == masks.finalize().zeros[CONV] > 0


def test_the_best_epoch_is_one_at_which_the_target_is_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = net()
    accuracies = iter([0.70, 0.71, 0.60, 0.65])
    monkeypatch.setattr(Trainer, "_evaluate", lambda *_: next(accuracies))
    masks = pruner(model, schedule=OneShot(2 * len(BATCHES) + 1))
    log = CSVLog(tmp_path / "log.csv")
    result = Trainer(model, BATCHES, BATCHES, CONFIG, callbacks=[masks, log]).fit()
    assert [row["target_reached"] for row in result.history] == [0, 0, 1, 1]
    assert result.best_accuracy == 0.65
    assert result.last_accuracy == 0.65
    assert "target_reached" in (tmp_path / "log.csv").read_text().splitlines()[0]
    rows = ({"accuracy": 0.5, "target_reached": 0.0},)
    assert TrainingResult(rows).best_accuracy is None


def test_a_schedule_that_does_not_reach_its_end_is_refused() -> None:
    model = net()
    masks = pruner(model, schedule=OneShot(17))
    with pytest.raises(CompressError, match="when the training ends, after 16 steps"):
        Trainer(model, BATCHES, config=CONFIG, callbacks=[masks]).fit()
    assert same_tensors(model, net())
    with pytest.raises(CompressError, match="trains another model"):
        Trainer(net(), BATCHES, config=CONFIG, callbacks=[pruner(model)]).fit()


def test_evaluations_see_averages_with_zeros() -> None:
    seen: list[int] = []

    class Look(Callback):
        def on_eval_start(self, run: Run) -> None:
            pass

        def on_eval_end(self, run: Run) -> None:
            seen.append(int((run.model.get_parameter(CONV) == 0).sum()))

    model = net()
    masks = pruner(model, schedule=OneShot(4))
    Trainer(model, BATCHES, BATCHES, CONFIG, callbacks=[masks, Look()]).fit()
    count = masks.finalize().zeros[CONV]
    assert seen == [count] * 4
    assert torch.equal(model.get_parameter(CONV) != 0, masks.finalize().kept[CONV])

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from torchcompress.distillation import DistillationTrainer, Distiller
from torchcompress.training import Callback, Run, Trainer, TrainerConfig

Make = Callable[..., Any]
Batches = list[tuple[Tensor, Tensor]]


def _same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def test_it_is_a_trainer_with_a_distiller_as_its_loss(make_model: Make, batches: Batches) -> None:
    teacher, student, other = make_model(12, seed=5), make_model(), make_model()
    config = TrainerConfig(epochs=2, lr=0.1)
    before = copy.deepcopy(teacher.state_dict())
    result = DistillationTrainer(
        student, teacher, batches, batches, config, ["dist", ("ce", 0.5)]
    ).fit()
    assert _same(teacher.state_dict(), before)
    row = result.history[-1]
    assert row["loss"] == pytest.approx(row["loss.dist"] + row["loss.ce"], rel=1e-5)
    assert result.last_accuracy is not None

    distiller = Distiller(other, teacher, ["dist", ("ce", 0.5)])
    Trainer(
        other,
        batches,
        config=config,
        loss=lambda _, inputs, labels: distiller(inputs, labels).terms,
    ).fit()
    assert _same(student.state_dict(), other.state_dict())


def test_unlabelled_images_are_enough(make_model: Make, batches: Batches) -> None:
    images = [inputs for inputs, _ in batches]
    config = TrainerConfig(epochs=1)
    result = DistillationTrainer(make_model(), make_model(12), images, config=config).fit()
    assert set(result.history[0]) >= {"loss", "loss.dist"}


def test_student_and_teacher_see_the_same_mixed_inputs(make_model: Make, batches: Batches) -> None:
    student, teacher = make_model(), make_model(12)
    seen: dict[str, list[Tensor]] = {"student": [], "teacher": []}
    student.register_forward_pre_hook(lambda _, args: seen["student"].append(args[0]))
    teacher.register_forward_pre_hook(lambda _, args: seen["teacher"].append(args[0]))
    config = TrainerConfig(epochs=1, mixup_alpha=1.0)
    DistillationTrainer(student, teacher, batches[:1], None, config, ["dist", "ce"]).fit()
    assert torch.equal(seen["student"][-1], seen["teacher"][-1])
    assert not torch.equal(seen["teacher"][0], batches[0][0])


def test_a_distillation_resumes_bit_for_bit(
    tmp_path: Path, make_model: Make, batches: Batches
) -> None:
    class Stop(Callback):
        def on_epoch_start(self, run: Run) -> None:
            if run.epoch == 2:
                raise KeyboardInterrupt

    teacher, whole, halved, resumed = (make_model(12), *(make_model() for _ in range(3)))
    config = TrainerConfig(epochs=4, ema_decay=0.9, amp="bf16")

    def fit(student: Any, **kwargs: Any) -> None:
        DistillationTrainer(student, teacher, batches, batches, config, **kwargs).fit()

    fit(whole, callbacks=[Callback()])
    with pytest.raises(KeyboardInterrupt):
        fit(halved, callbacks=[Stop()], checkpoint=tmp_path / "run.pt")
    Stop.on_epoch_start = Callback.on_epoch_start
    fit(resumed, callbacks=[Stop()], checkpoint=tmp_path / "run.pt", resume=True)
    assert _same(whole.state_dict(), resumed.state_dict())

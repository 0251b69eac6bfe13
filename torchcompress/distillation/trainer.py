"""Distillation in one line."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from torchcompress.distillation.distiller import Distiller
from torchcompress.distillation.terms import LossTerm
from torchcompress.training.callback import Callback
from torchcompress.training.config import TrainerConfig
from torchcompress.training.loader import TrainLoader
from torchcompress.training.trainer import Trainer


class DistillationTrainer(Trainer):
    """Trains a student, in place, against a teacher.

    Args:
        student: What is trained.
        teacher: As in `Distiller`.
        train: Batches `(inputs, labels)`, or inputs alone where no loss needs labels.
        val: Batches `(inputs, labels)` on which accuracy is measured after each epoch.
        config: As in `Trainer`; label smoothing is an option of the loss `ce` instead.
        losses: As in `Distiller`.
        callbacks: As in `Trainer`.
        checkpoint: As in `Trainer`.
        resume: As in `Trainer`.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | Sequence[nn.Module],
        train: TrainLoader,
        val: Iterable[Any] | None = None,
        config: TrainerConfig | None = None,
        losses: Sequence[LossTerm | str | tuple[str, float]] = ("dist",),
        *,
        callbacks: Sequence[Callback] = (),
        checkpoint: str | Path | None = None,
        resume: bool = False,
    ) -> None:
        self.distiller = Distiller(student, teacher, losses)
        super().__init__(
            student,
            train,
            val,
            config,
            loss=self._terms,
            callbacks=callbacks,
            checkpoint=checkpoint,
            resume=resume,
        )

    def _terms(self, model: nn.Module, inputs: Any, labels: Any) -> dict[str, Tensor]:
        return self.distiller(inputs, labels).terms

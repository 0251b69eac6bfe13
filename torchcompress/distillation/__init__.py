"""Distillation: losses, the Distiller, and its trainer."""

from torchcompress.distillation import losses
from torchcompress.distillation.distiller import DistillationOutput, Distiller
from torchcompress.distillation.terms import LOSSES, LossTerm
from torchcompress.distillation.trainer import DistillationTrainer

__all__ = [
    "LOSSES",
    "DistillationOutput",
    "DistillationTrainer",
    "Distiller",
    "LossTerm",
    "losses",
]

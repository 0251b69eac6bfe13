"""The keys of stages that train."""

from collections.abc import Sequence
from dataclasses import fields
from inspect import signature
from typing import Literal, Self

import torch
from pydantic import NonNegativeFloat, model_validator

from torchcompress.core.errors import did_you_mean
from torchcompress.distillation.terms import LOSSES, LossTerm, loss_terms
from torchcompress.recipe.faults import as_fault, fault
from torchcompress.recipe.section import Section
from torchcompress.training.config import TrainerConfig

DEFAULTS = TrainerConfig()
"""What the trainer does where a key is left out."""


class LossSection(Section):
    """One term of a loss."""

    name: str
    """Its name in `torchcompress.distillation.losses`."""
    weight: NonNegativeFloat = 1.0
    """What the term is multiplied by."""
    options: dict[str, bool | float] = {}
    """Keyword arguments of the loss, such as `{ temperature = 2.0 }`."""

    @model_validator(mode="after")
    def _is_a_loss(self) -> Self:
        if self.name not in LOSSES:
            hint = did_you_mean(self.name, LOSSES)
            raise fault(f"{self.name!r} is not a loss", key="name", hint=hint)
        known = LOSSES[self.name].options
        defaults = signature(LOSSES[self.name].function).parameters
        for option, value in self.options.items():
            key = f"options.{option}"
            if option not in known:
                raise fault("unknown key", key=key, hint=did_you_mean(option, known))
            switch = isinstance(defaults[option].default, bool)
            if isinstance(value, bool) != switch:
                needed = "true or false" if switch else "a number"
                raise fault(f"{value!r} is given where {needed} is needed", key=key)
        logits, labels = torch.zeros(2, 3), torch.tensor([0, 1])
        loss = LOSSES[self.name]
        with as_fault("options"):
            loss.function(logits, logits if loss.reference == "teacher" else labels, **self.options)
        return self

    def term(self) -> LossTerm:
        """Returns the term that the keys say."""
        return LossTerm(self.name, self.weight, self.options)


def check_losses(losses: Sequence[LossSection]) -> None:
    """Refuses terms that do not go together.

    Raises:
        PydanticCustomError: Names the key `loss`.
    """
    with as_fault("loss"):
        loss_terms([loss.term() for loss in losses])


class TrainingKeys(Section):
    """How a stage trains."""

    optimizer: str = DEFAULTS.optimizer
    """`sgd` with Nesterov momentum, or `adamw`."""
    lr: float = DEFAULTS.lr
    """The highest learning rate."""
    momentum: float = DEFAULTS.momentum
    """Of `sgd`."""
    weight_decay: float = DEFAULTS.weight_decay
    """On weights, never on norms and biases."""
    warmup_epochs: float = DEFAULTS.warmup_epochs
    """The learning rate rises over so many epochs, then falls along a cosine."""
    clip_norm: float | None = DEFAULTS.clip_norm
    """The largest norm of the gradient."""
    ema_decay: float | None = DEFAULTS.ema_decay
    """Decay of the running mean of the weights, which becomes the result."""
    amp: str | None = DEFAULTS.amp
    """`bf16` for mixed precision."""
    channels_last: bool = DEFAULTS.channels_last
    """The memory format of model and images."""
    mixup_alpha: float = DEFAULTS.mixup_alpha
    """Of mixup; 0 is off."""

    def trainer_config(self, epochs: int, seed: int) -> TrainerConfig:
        """Returns the trainer's configuration that the keys say."""
        known = {field.name for field in fields(TrainerConfig)} - {"epochs", "seed"}
        return TrainerConfig(**self.model_dump(include=known), epochs=epochs, seed=seed)


class TrainingSection(TrainingKeys):
    """What a stage takes that is a training."""

    epochs: int
    """Passes over the training images."""

    @model_validator(mode="after")
    def _can_train(self) -> Self:
        with as_fault():
            self.config(seed=0)
        return self

    def config(self, seed: int) -> TrainerConfig:
        """Returns the trainer's configuration that the keys say."""
        return self.trainer_config(self.epochs, seed)


class TaughtKeys(TrainingKeys):
    """How a stage trains that may have a teacher."""

    teacher: Literal["input"] | None = None
    """As in `distill`, where the stage trains."""
    loss: list[LossSection] = []
    """As in `distill`, where the stage trains; by default the labels alone."""

    def terms(self) -> list[LossSection]:
        """Returns the terms of the loss; none for the labels alone."""
        return self.loss or [LossSection(name="dist")] * (self.teacher is not None)

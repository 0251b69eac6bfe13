"""The kinds of stages and their keys."""

import difflib
from dataclasses import fields
from inspect import signature
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    NonNegativeFloat,
    PositiveInt,
    model_validator,
)

from torchcompress.core.errors import did_you_mean
from torchcompress.core.target import Target
from torchcompress.distillation.terms import LOSSES, LossTerm, loss_terms
from torchcompress.pruning.floors import Floors
from torchcompress.quantization.config import QuantizationConfig, RangeMethod
from torchcompress.recipe.faults import as_fault, fault
from torchcompress.recipe.section import Section
from torchcompress.training.config import TrainerConfig

_DEFAULTS = TrainerConfig()


class TargetSection(Section):
    """What remains; exactly one key."""

    channels: float | None = None
    """Fraction of the channels of each layer."""
    macs: float | None = None
    """Multiply-accumulates of one sample: a fraction, or a count above 1."""
    params: float | None = None
    """Parameters: a fraction, or a count above 1."""

    @model_validator(mode="after")
    def _is_a_target(self) -> Self:
        with as_fault():
            self.target()
        return self

    def target(self) -> Target:
        """Returns the target that the key says."""
        return Target(**self.model_dump())


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


class TrainingSection(Section):
    """What every stage that trains takes."""

    epochs: int
    """Passes over the training images."""
    optimizer: str = _DEFAULTS.optimizer
    """`sgd` with Nesterov momentum, or `adamw`."""
    lr: float = _DEFAULTS.lr
    """The highest learning rate."""
    momentum: float = _DEFAULTS.momentum
    """Of `sgd`."""
    weight_decay: float = _DEFAULTS.weight_decay
    """On weights, never on norms and biases."""
    warmup_epochs: float = _DEFAULTS.warmup_epochs
    """The learning rate rises over so many epochs, then falls along a cosine."""
    clip_norm: float | None = _DEFAULTS.clip_norm
    """The largest norm of the gradient."""
    ema_decay: float | None = _DEFAULTS.ema_decay
    """Decay of the running mean of the weights, which becomes the result."""
    amp: str | None = _DEFAULTS.amp
    """`bf16` for mixed precision."""
    channels_last: bool = _DEFAULTS.channels_last
    """The memory format of model and images."""
    mixup_alpha: float = _DEFAULTS.mixup_alpha
    """Of mixup; 0 is off."""

    @model_validator(mode="after")
    def _can_train(self) -> Self:
        with as_fault():
            self.config(seed=0)
        return self

    def config(self, seed: int) -> TrainerConfig:
        """Returns the trainer's configuration that the keys say."""
        known = {field.name for field in fields(TrainerConfig)}
        return TrainerConfig(**self.model_dump(include=known), seed=seed)


class Train(TrainingSection):
    """Trains on the labels."""

    kind: Literal["train"]
    label_smoothing: float = _DEFAULTS.label_smoothing
    """Share of the label that is spread over all classes."""


class PruneChannels(Section):
    """Removes whole channels."""

    kind: Literal["prune.channels"]
    target: TargetSection
    """What remains."""
    importance: Literal["magnitude", "bn", "taylor", "fisher", "variance", "lamp", "random"] = (
        "magnitude"
    )
    """What makes a channel worth keeping. `taylor`, `fisher` and `variance` look at the calibration
    images, the first two with their labels."""
    scope: Literal["global", "layer", "isomorphic"] | None = None
    """Who competes: all channels, those of a layer, or those of layers of one kind; by default a
    layer's for a target in channels, else all."""
    ratios: dict[str, float] = {}
    """The fraction kept of layers that do not compete, by glob over their names."""
    max_removed: float = 1.0
    """Each other layer loses at most this fraction."""
    exclude: list[str] = []
    """Globs over the names of layers that keep their channels."""
    round_to: PositiveInt = 8
    """Channel counts are multiples of this."""
    min_channels: PositiveInt = 1
    """A layer keeps at least so many."""
    reconstruct: bool = False
    """Whether what remains is fitted anew, by least squares on the calibration images."""

    @model_validator(mode="after")
    def _has_fractions(self) -> Self:
        with as_fault("max_removed"):
            Floors(max_removed=self.max_removed)
        for pattern, kept in self.ratios.items():
            if not 0 < kept <= 1:
                raise fault(f"{kept:g} is outside (0, 1]", key=f"ratios.{pattern}")
        return self


class Distill(TrainingSection):
    """Trains on the labels and on a teacher's answers."""

    kind: Literal["distill"]
    teacher: Literal["input"] = "input"
    """`input`: the model as it entered the recipe; one that entered untrained, after its leading
    `train` stages."""
    loss: Annotated[list[LossSection], Field(min_length=1)] = [LossSection(name="dist")]
    """The terms of the loss, which are summed."""

    @model_validator(mode="after")
    def _names_each_loss_once(self) -> Self:
        with as_fault("loss"):
            loss_terms([loss.term() for loss in self.loss])
        return self


class QuantizePtq(Section):
    """Converts to int8 without training."""

    kind: Literal["quantize.ptq"]
    ranges: RangeMethod = "mse"
    """How the range of an activation is chosen: `mse`, or `minmax` in one pass."""
    exclude: list[str] = []
    """Globs over the names of layers that stay float."""

    def config(self) -> QuantizationConfig:
        """Returns the configuration that the keys say."""
        return QuantizationConfig(ranges=self.ranges, exclude=tuple(self.exclude))


KINDS = ("train", "prune.channels", "distill", "quantize.ptq")
"""The kinds of stages."""


def _has_a_known_kind(data: Any) -> Any:
    if not isinstance(data, dict):
        return data
    if "kind" not in data:
        near = difflib.get_close_matches("kind", map(str, data), n=1)
        if near:
            raise fault("unknown key", key=near[0], hint="did you mean 'kind'?")
        raise fault("is missing", key="kind", hint=did_you_mean("", KINDS))
    if data["kind"] not in KINDS:
        kind = data["kind"]
        raise fault(
            f"{kind!r} is not a kind of stage", key="kind", hint=did_you_mean(str(kind), KINDS)
        )
    return data


Stage = Annotated[
    Annotated[Train | PruneChannels | Distill | QuantizePtq, Discriminator("kind")],
    BeforeValidator(_has_a_known_kind),
]
"""One stage of any kind."""

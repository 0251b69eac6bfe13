"""The kinds of stages and their keys."""

import difflib
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, PositiveInt, model_validator

from torchcompress.core.errors import did_you_mean
from torchcompress.core.target import Target
from torchcompress.pruning.floors import Floors
from torchcompress.pruning.weights.pattern import check_pattern_target, parse_pattern
from torchcompress.quantization.config import QuantizationConfig, RangeMethod
from torchcompress.quantization.qat import QATConfig
from torchcompress.recipe.faults import as_fault, fault
from torchcompress.recipe.section import Section
from torchcompress.recipe.training_schema import (
    DEFAULTS,
    LossSection,
    TaughtKeys,
    TrainingSection,
    check_losses,
)


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


class SparsitySection(Section):
    """What goes."""

    sparsity: float
    """The fraction of all weights of convolutions and linear layers that becomes zero."""

    @model_validator(mode="after")
    def _is_a_target(self) -> Self:
        with as_fault():
            self.target()
        return self

    def target(self) -> Target:
        """Returns the target that the key says."""
        return Target(sparsity=self.sparsity)


class Train(TrainingSection):
    """Trains on the labels."""

    kind: Literal["train"]
    label_smoothing: float = DEFAULTS.label_smoothing
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


class PruneWeights(TaughtKeys):
    """Sets single weights to zero, and keeps them there in later stages."""

    kind: Literal["prune.weights"]
    target: SparsitySection | None = None
    """What goes; an n:m pattern brings its own."""
    scope: Literal["global", "layer", "erk", "lamp"] | None = None
    """Who competes: all weights, those of a layer, or by the rules of ERK or LAMP; by default all.
    """
    pattern: str | None = None
    """`2:4` or another `n:m`, `block:4x4`, or single weights."""
    exclude: list[str] = []
    """Globs over the names of layers that stay as they are."""
    keep_ends: bool | None = None
    """Whether the first convolution and the classifier stay too; by default they do, but where
    `reconstruct` weighs what they may lose."""
    reconstruct: bool = False
    """Whether the weights that stay are fitted to the calibration images, without training."""
    epochs: int | None = None
    """Passes over the training images, in which weights go little by little; by default all go at
    once, without training."""

    @model_validator(mode="after")
    def _can_work(self) -> Self:
        with as_fault("pattern"):
            pattern = parse_pattern(self.pattern)
        with as_fault("target"):
            check_pattern_target(pattern, self.wanted())
        if self.reconstruct and self.scope is not None:
            raise fault("has no effect where reconstruct finds each layer's share", key="scope")
        if self.epochs is not None:
            if self.reconstruct:
                raise fault(
                    "does not train",
                    key="reconstruct",
                    hint="leave epochs out, and let a stage of kind 'train' follow",
                )
            with as_fault():
                self.trainer_config(self.epochs, seed=0)
            if self.terms():
                check_losses(self.terms())
            return self
        for name, known in type(self).model_fields.items():
            if name in TaughtKeys.model_fields and getattr(self, name) != known.default:
                raise fault("has no effect without epochs", key=name, hint="give epochs too")
        return self

    def keeps_ends(self) -> bool:
        """Whether the first convolution and the classifier stay."""
        return not self.reconstruct if self.keep_ends is None else self.keep_ends

    def wanted(self) -> Target | None:
        """Returns the target that the keys say."""
        return None if self.target is None else self.target.target()


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
        check_losses(self.loss)
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


class QuantizeQat(TaughtKeys):
    """Trains with the rounding of int8, then converts to it."""

    kind: Literal["quantize.qat"]
    epochs: int
    """Passes over the training images."""
    lr: float = 0.005
    """The highest learning rate; that of a fine-tuning."""
    ranges: RangeMethod = "mse"
    """As in `quantize.ptq`; ranges then follow the training."""
    learned: bool = False
    """Whether the steps of the grids are learned by gradient (LSQ), in place of following."""
    exclude: list[str] = []
    """Globs over the names of layers that stay float."""

    @model_validator(mode="after")
    def _can_train(self) -> Self:
        with as_fault():
            self.trainer_config(self.epochs, seed=0)
        if self.terms():
            check_losses(self.terms())
        return self

    def config(self) -> QATConfig:
        """Returns the configuration that the keys say."""
        return QATConfig(ranges=self.ranges, learned=self.learned, exclude=tuple(self.exclude))


KINDS = ("train", "prune.channels", "prune.weights", "distill", "quantize.ptq", "quantize.qat")
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
    Annotated[
        Train | PruneChannels | PruneWeights | Distill | QuantizePtq | QuantizeQat,
        Discriminator("kind"),
    ],
    BeforeValidator(_has_a_known_kind),
]
"""One stage of any kind."""

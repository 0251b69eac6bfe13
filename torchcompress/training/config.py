"""How a training runs."""

from dataclasses import dataclass

from torchcompress.core.errors import CompressError, did_you_mean
from torchcompress.core.numbers import is_finite, shown

OPTIMIZERS = ("sgd", "adamw")
"""The optimizers by name."""

AMP = ("bf16",)
"""The mixed precisions by name."""


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """How a training runs.

    Args:
        epochs: Passes over the training data.
        optimizer: `sgd` (Nesterov, where `momentum` is above 0) or `adamw`.
        lr: The highest learning rate.
        momentum: Of `sgd`, from 0 to below 1; `adamw` does not use it.
        weight_decay: On weights of two or more dimensions; never on norms and biases.
        warmup_epochs: The learning rate rises linearly over so many epochs, then falls along a
            cosine to 0, step by step.
        label_smoothing: Of the default loss, from 0 to below 1.
        clip_norm: The largest norm of the gradient over all parameters, None for no limit.
        ema_decay: The model becomes the running mean of its weights and buffers with this decay,
            from 0 to below 1; None for off.
        amp: `bf16` for autocast, None for full precision.
        channels_last: Whether model and images get the channels_last memory format.
        seed: Where the randomness of the training comes from.
        mixup_alpha: Mixup's Beta(alpha, alpha), 0 for off.

    Raises:
        CompressError: A value out of range.
    """

    epochs: int = 10
    optimizer: str = "sgd"
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup_epochs: float = 0.0
    label_smoothing: float = 0.0
    clip_norm: float | None = None
    ema_decay: float | None = None
    amp: str | None = None
    channels_last: bool = True
    seed: int = 0
    mixup_alpha: float = 0.0

    def __post_init__(self) -> None:
        _whole("epochs", self.epochs, 1)
        _whole("seed", self.seed, 0)
        _named("optimizer", self.optimizer, OPTIMIZERS)
        check_number("config.lr", self.lr, above=0)
        check_number("config.momentum", self.momentum, least=0, below=1)
        check_number("config.weight_decay", self.weight_decay, least=0)
        check_number("config.warmup_epochs", self.warmup_epochs, least=0, below=self.epochs)
        check_number("config.label_smoothing", self.label_smoothing, least=0, below=1)
        check_number("config.mixup_alpha", self.mixup_alpha, least=0)
        if self.clip_norm is not None:
            check_number("config.clip_norm", self.clip_norm, above=0)
        if self.ema_decay is not None:
            check_number("config.ema_decay", self.ema_decay, least=0, below=1)
        if self.amp is not None:
            _named("amp", self.amp, AMP)


def _whole(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise CompressError(f"{value!r} is not a whole number from {least}", where=f"config.{name}")


def _named(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise CompressError(
            f"{value!r} is not known", where=f"config.{name}", hint=did_you_mean(value, known)
        )


def check_number(
    where: str,
    value: object,
    *,
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
) -> None:
    """Refuses what is no finite number in a range.

    Args:
        where: The name of the value, for the error.
        value: What was given.
        above: The number that it must be above.
        least: The least number that it may be.
        below: The number that it must be below.

    Raises:
        CompressError: No finite number, or out of the range.
    """
    if not is_finite(value):
        raise CompressError(f"{shown(value)} is not a number", where=where)
    if above is not None and value <= above:
        raise CompressError(f"{value:g} is not above {above:g}", where=where)
    if least is not None and value < least:
        raise CompressError(f"{value:g} is below {least:g}", where=where)
    if below is not None and value >= below:
        raise CompressError(f"{value:g} is not below {below:g}", where=where)

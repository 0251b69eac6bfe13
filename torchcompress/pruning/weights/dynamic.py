"""Scores and masks that training itself moves: movement pruning and regrowth."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from torchcompress.core.errors import CompressError
from torchcompress.pruning.optimizer_state import parameters_of
from torchcompress.pruning.schedules import Schedule, fraction_at
from torchcompress.pruning.weights.choice import Masks
from torchcompress.pruning.weights.selection import Weight
from torchcompress.pruning.weights.units import lowest
from torchcompress.training.precision import at_least_float32


class Movement:
    """Scores weights by how far training moves them from zero: the sum of -w * dL/dw.

    Sanh et al. 2020, "Movement Pruning: Adaptive Sparsity by Fine-Tuning". Here a weight that is
    gone stays gone, so that its score stands still.

    Args:
        weights: The weights to score.
    """

    def __init__(self, weights: Iterable[Weight]) -> None:
        self.scores = {
            weight.name: torch.zeros_like(at_least_float32(weight.parameter.detach()))
            for weight in weights
        }

    @torch.no_grad()
    def add(self, weights: Iterable[Weight], optimizer: Optimizer) -> None:
        """Adds what the gradients say that an optimizer is about to step with.

        Args:
            weights: The weights to score.
            optimizer: Those that it trains are served.
        """
        owned = {id(parameter) for parameter in parameters_of(optimizer)}
        # A fused optimizer takes out the scale of a GradScaler by itself, later.
        scale = getattr(optimizer, "grad_scale", None)
        for weight in weights:
            gradient = weight.parameter.grad
            if id(weight.parameter) in owned and gradient is not None:
                score = self.scores[weight.name]
                moved = weight.parameter.to(score) * gradient.to(score)
                score -= moved if scale is None else moved / scale.to(score)


@dataclass(frozen=True, kw_only=True)
class RigL:
    """Moves zeros to where the gradient is small, while their number stays.

    Evci et al. 2020, "Rigging the Lottery: Making All Tickets Winners". Every so many steps each
    layer drops the weights of the lowest magnitude and grows as many of those that are zero, where
    the gradient is largest. They begin at zero, without momentum. The share that is dropped falls
    along a cosine.

    Args:
        every: Optimizer steps from one move to the next.
        end: Optimizer steps after which none are moved.
        share: The share of the weights that stay which is dropped at first, in (0, 1).

    Raises:
        CompressError: A number out of range, or an end before the first move.
    """

    every: int
    end: int
    share: float = 0.3

    def __post_init__(self) -> None:
        for name, least in (("every", 1), ("end", self.every + 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise CompressError(
                    f"{value!r} is not a whole number from {least}", where=f"growth.{name}"
                )
        if not 0 < self.share < 1:
            raise CompressError(f"{self.share!r} is outside (0, 1)", where="growth.share")

    def moves(self, step: int) -> bool:
        """Whether masks move after so many optimizer steps."""
        return 0 < step < self.end and step % self.every == 0

    def __call__(self, weights: Iterable[Weight], kept: Mapping[str, Tensor], step: int) -> Masks:
        """Returns the masks that move, by the gradients of the step that was just taken.

        Args:
            weights: The weights whose zeros may move; one without a gradient is left alone.
            kept: Where they stay so far, by name.
            step: Optimizer steps taken.
        """
        share = self.share / 2 * (1 + math.cos(math.pi * step / self.end))
        moved: Masks = {}
        for weight in weights:
            mask, gradient = kept[weight.name].flatten(), weight.parameter.grad
            if gradient is None or bool(mask.all()):
                continue
            count = int(share * int(mask.sum()))
            magnitudes = weight.parameter.detach().abs().flatten()
            stays = mask & ~lowest(magnitudes.masked_fill(~mask, torch.inf), count)
            wanted = (-gradient.detach().abs().flatten()).masked_fill(stays, torch.inf)
            moved[weight.name] = (stays | lowest(wanted, count)).reshape(gradient.shape)
        return moved


def forget(optimizers: Iterable[Optimizer], weight: Weight, grown: Tensor) -> None:
    """Lets optimizers forget the momentum of weights that begin anew.

    Args:
        optimizers: Who trains them.
        weight: Where they are.
        grown: Which they are: bool, of the weight's shape.
    """
    for optimizer in optimizers:
        for value in optimizer.state.get(weight.parameter, {}).values():
            if isinstance(value, Tensor) and value.shape == grown.shape:
                value.masked_fill_(grown.to(value.device), 0)


def check_moves_first(schedule: Schedule) -> None:
    """Refuses movement under a schedule that begins before anything has moved.

    Raises:
        CompressError: It does.
    """
    if fraction_at(schedule, 0) > 0:
        raise CompressError(
            "movement has no step to show in before the first weights go",
            where="schedule",
            hint="let it begin later, such as Cubic(begin=100, end=1000, every=100)",
        )


def check_grows(growth: RigL, schedule: Schedule | None, pattern: str | None) -> None:
    """Refuses regrowth that could have no effect, or breaks a pattern.

    Args:
        growth: What moves zeros.
        schedule: When there are any, None where there are from the start.
        pattern: Which weights go together.

    Raises:
        CompressError: It does.
    """
    if not isinstance(growth, RigL):
        raise CompressError(
            f"{growth!r} is no way to move zeros",
            where="growth",
            hint="give RigL(every=100, end=10_000)",
        )
    if pattern is not None:
        raise CompressError(f"moving zeros would break the pattern {pattern}", where="growth")
    if schedule is not None and fraction_at(schedule, growth.end - 1) == 0:
        raise CompressError(
            "ends before anything is zero", where="growth", hint="let the schedule begin earlier"
        )

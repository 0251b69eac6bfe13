"""The terms of a distillation loss: which function, its weight, its options."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from torchcompress.core.errors import CompressError, did_you_mean
from torchcompress.distillation import losses
from torchcompress.training.config import check_number


@dataclass(frozen=True)
class LossFunction:
    """A loss on the student's logits.

    Args:
        function: `function(student, reference, **options)` gives a scalar.
        reference: What it compares with: the `teacher`'s logits or the `labels`.
    """

    function: Callable[..., Tensor]
    reference: Literal["teacher", "labels"]

    @property
    def options(self) -> tuple[str, ...]:
        """The names of the options."""
        parameters = inspect.signature(self.function).parameters.values()
        return tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)


LOSSES: dict[str, LossFunction] = {
    "dist": LossFunction(losses.dist, "teacher"),
    "kd": LossFunction(losses.kd, "teacher"),
    "ce": LossFunction(losses.ce, "labels"),
}
"""The losses by name."""


@dataclass(frozen=True)
class LossTerm:
    """One term of a distillation loss.

    Args:
        name: One of `LOSSES`.
        weight: What the term is multiplied by, 0 or more.
        options: Keyword arguments of the loss, such as `{"temperature": 2.0}`.

    Raises:
        CompressError: An unknown name or option, or a weight that is not a number from 0.
    """

    name: str
    weight: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise CompressError(f"{self.name!r} is not the name of a loss", where="losses")
        if self.name not in LOSSES:
            raise CompressError(
                f"{self.name!r} is not a loss", where="losses", hint=did_you_mean(self.name, LOSSES)
            )
        known = LOSSES[self.name].options
        for option in self.options:
            if option not in known:
                raise CompressError(
                    f"{option!r} is not an option",
                    where=f"losses.{self.name}",
                    hint=did_you_mean(option, known),
                )
        check_number(f"losses.{self.name}.weight", self.weight, least=0)


def loss_terms(losses: Sequence[LossTerm | str | tuple[str, float]]) -> tuple[LossTerm, ...]:
    """Returns terms that were given in full, as names, or as pairs of name and weight.

    Args:
        losses: The terms.

    Raises:
        CompressError: No term, the same name twice, or a term that cannot be.
    """
    if isinstance(losses, str) or not isinstance(losses, Sequence):
        losses = [losses]
    terms = tuple(_term(one) for one in losses)
    if not terms:
        raise CompressError("no loss is given", where="losses", hint='give losses=["dist"]')
    names = [term.name for term in terms]
    for name in names:
        if names.count(name) > 1:
            raise CompressError("this loss is given twice", where=f"losses.{name}")
    return terms


def _term(one: Any) -> LossTerm:
    if isinstance(one, LossTerm):
        return one
    if isinstance(one, list | tuple):
        if len(one) != 2:
            raise CompressError(f"{one!r} is not a pair of name and weight", where="losses")
        return LossTerm(*one)
    return LossTerm(one)

"""What a pruning of weights is asked for, checked."""

from collections.abc import Mapping
from dataclasses import dataclass

from torchcompress.core.errors import CompressError, did_you_mean
from torchcompress.core.target import Target
from torchcompress.pruning.weights.choice import Choice, NMChoice, SparsityChoice
from torchcompress.pruning.weights.pattern import (
    NM,
    Pattern,
    check_divides,
    check_pattern_target,
    parse_pattern,
)
from torchcompress.pruning.weights.selection import Selection
from torchcompress.pruning.weights.thresholds import ThresholdChoice, thresholds_of

IMPORTANCES = ("magnitude", "movement")


@dataclass(frozen=True)
class Asked:
    """What is asked for.

    Attributes:
        target: In words.
        pattern: In words, None for single weights.
        importance: `magnitude` or `movement`.
        choice: Chooses the weights that go.
    """

    target: str
    pattern: str | None
    importance: str
    choice: Choice

    def __str__(self) -> str:
        words = [self.target, self.choice.scope and f"scope={self.choice.scope}"]
        words += [self.pattern and f"pattern={self.pattern}", f"importance={self.importance}"]
        return ", ".join(word for word in words if word)


def ask(
    selection: Selection,
    target: Target | float | Mapping[str, float] | None,
    scope: str | None,
    pattern: str | Pattern | None,
    importance: str,
) -> Asked:
    """Returns what is asked for by the arguments of `MagnitudePruner`.

    Raises:
        CompressError: Arguments that are wrong, or do not go together.
        UnsupportedError: A pattern that does not divide a layer, or a target that is no sparsity.
    """
    parsed = parse_pattern(pattern)
    check_divides(parsed, selection.free)
    words = None if parsed is None else str(parsed)
    if importance not in IMPORTANCES:
        raise CompressError(
            f"{importance!r} is not an importance of weights",
            where="importance",
            hint=did_you_mean(str(importance), IMPORTANCES),
        )
    if target is not None and not isinstance(target, Target):
        if isinstance(parsed, NM) or importance != "magnitude":
            other = f"the pattern {parsed}" if isinstance(parsed, NM) else "movement"
            raise CompressError(
                f"a threshold on |w| does not go with {other}",
                where="target",
                hint="give Target(sparsity=0.9), or leave it out beside an n:m pattern",
            )
        _no_scope(scope, "a threshold")
        thresholds = thresholds_of(target, selection)
        said = (
            ", ".join(f"{name}: {value:g}" for name, value in target.items())
            if isinstance(target, Mapping)
            else f"{target:g}"
        )
        return Asked(
            f"threshold={said}", words, importance, ThresholdChoice(selection, thresholds, parsed)
        )
    wanted = check_pattern_target(parsed, target)
    if isinstance(parsed, NM):
        _no_scope(scope, f"the pattern {parsed}")
        return Asked(str(parsed), words, importance, NMChoice(selection, parsed))
    if scope == "lamp" and importance != "magnitude":
        raise CompressError(
            "lamp is about magnitudes, not movement", where="scope", hint="give scope='global'"
        )
    choice = SparsityChoice(selection, wanted, scope or "global", parsed)
    return Asked(str(wanted), words, importance, choice)


def _no_scope(scope: str | None, what: str) -> None:
    if scope is not None:
        raise CompressError(
            f"{what} leaves no weights to compete", where="scope", hint="leave the scope out"
        )

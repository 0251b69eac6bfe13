"""What the arguments of a channel cut may be."""

from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from typing import Any

from torch import Tensor

from torchcompress.core.errors import CompressError, UnsupportedError, did_you_mean
from torchcompress.core.target import Target
from torchcompress.pruning.plan import PruningPlan
from torchcompress.pruning.scope import SCOPES

ATTENTION = ("heads", "head_dims")
TIMES = ("latency", "latency_ms")
QUANTITIES = ("channels", "macs", "params", *TIMES)


def check_target(target: Target) -> None:
    """Checks that channels can be pruned to a target.

    Raises:
        CompressError: It is no target.
        UnsupportedError: It is about something else.
    """
    _need(isinstance(target, Target), target, "target", "a target such as tc.Target(macs=0.5)")
    if target.quantity not in QUANTITIES:
        raise UnsupportedError(
            f"channels cannot be pruned to {target}",
            where="target",
            hint=f"give {', '.join(QUANTITIES)}",
        )


def check_options(given: Mapping[str, Any]) -> None:
    """Checks the types of the options of `plan_channels`, and the names that they may be.

    Args:
        given: Options by name.

    Raises:
        CompressError: One of another type, or a name that does not exist.
    """
    for name, known, what in (
        ("scope", SCOPES, "a scope"),
        ("attention", ATTENTION, "a part of an attention"),
    ):
        if given[name] not in known:
            hint = did_you_mean(str(given[name]), known)
            raise CompressError(f"{given[name]!r} is not {what}", where=name, hint=hint)
    for name, kind, what in (
        ("round_to", Integral, "a whole number"),
        ("min_channels", Integral, "a whole number"),
        ("max_removed", Real, "a fraction"),
        ("ratios", Mapping | None, "a dict from globs to fractions"),
        ("data", Iterable | None, "batches, such as a data loader"),
        ("since", PruningPlan | None, "a plan, such as tc.history(model)[0]"),
    ):
        _need(_is(given[name], kind), given[name], name, what)
    for name in ("loss", "forward"):
        _need(given[name] is None or callable(given[name]), given[name], name, "a function")
    for glob, kept in (given["ratios"] or {}).items():
        _need(isinstance(glob, str), glob, "ratios", "a glob")
        _need(_is(kept, Real), kept, f"ratios[{glob!r}]", "a fraction")


def _is(value: Any, kind: Any) -> bool:
    """Whether a value is of a kind; a bool is no number, and a tensor is no list of batches."""
    return isinstance(value, kind) and not isinstance(value, bool | Tensor)


def _need(fits: bool, value: Any, where: str, what: str) -> None:
    if not fits:
        shown = type(value).__name__ if isinstance(value, Tensor) else repr(value)
        raise CompressError(f"{shown} will not do", where=where, hint=f"give {what}")

"""Channel pruning: make a plan, or make it and apply it."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

from torch import nn

from torchcompress.core.errors import CompressError, UnsupportedError, did_you_mean
from torchcompress.core.inputs import Forward, Inputs
from torchcompress.core.modules import match_names, named_tensors
from torchcompress.core.target import Target
from torchcompress.graph.groups import Group, channel_groups
from torchcompress.graph.macs import RemainingCost
from torchcompress.graph.tracer import trace
from torchcompress.pruning.budget import Budget, Floors, Removed
from torchcompress.pruning.draft import Draft
from torchcompress.pruning.importance import magnitude
from torchcompress.pruning.plan import PruningPlan
from torchcompress.pruning.search import find_cut
from torchcompress.reconstruction import resolve_consumers

M = TypeVar("M", bound=nn.Module)

SCOPES = ("global", "layer")
IMPORTANCES = {"magnitude": magnitude}
QUANTITIES = ("channels", "macs", "params")


def prune_channels(
    model: M,
    x: Inputs,
    target: Target,
    *,
    importance: str = "magnitude",
    scope: str | None = None,
    exclude: Sequence[str] = (),
    round_to: int = 8,
    min_channels: int = 1,
    prove: bool = True,
    calibration: Iterable[Any] | None = None,
    forward: Forward | None = None,
    inplace: bool = False,
) -> M:
    """Returns a model with fewer channels.

    With calibration data what remains is fitted anew, without labels and without training: each
    layer that lost inputs is solved towards what it gave before (see
    `reconstruction.resolve_consumers`).

    Args:
        model: Any model.
        x: Example inputs.
        target: What remains.
        importance: As in `plan_channels`, as are the next five.
        scope: How channels are compared.
        exclude: Globs over layers that keep all their channels.
        round_to: Channels that remain are a multiple of this.
        min_channels: Channels that each layer keeps.
        prove: Run the trial.
        calibration: A few hundred unlabelled samples in batches.
        forward: How the model is called on a batch of `calibration`.
        inplace: Cut `model` itself.

    Raises:
        CompressError: As in `plan_channels`; calibration data that is empty or not finite.
    """
    plan = plan_channels(
        model,
        x,
        target,
        importance=importance,
        scope=scope,
        exclude=exclude,
        round_to=round_to,
        min_channels=min_channels,
        prove=prove,
    )
    if calibration is None:
        return cast(M, plan.apply(model, inplace=inplace))
    fitted = plan.apply(model)
    resolve_consumers(model, fitted, plan.removed, calibration, forward=forward)
    if not inplace:
        return cast(M, fitted)
    plan.apply(model, inplace=True).load_state_dict(fitted.state_dict())
    return model


def plan_channels(
    model: nn.Module,
    x: Inputs,
    target: Target,
    *,
    importance: str = "magnitude",
    scope: str | None = None,
    exclude: Sequence[str] = (),
    round_to: int = 8,
    min_channels: int = 1,
    prove: bool = True,
) -> PruningPlan:
    """Plans which channels of a model go, and proves that the model works without them.

    One run of the model shows which channels are coupled. The plan meets the target from below
    and by as little as one removable unit allows. The trial then compares the pruned model with
    the original whose removed channels are zeroed at every consumer; a group that fails it is
    frozen with the reason, and the plan is made again without it.

    Args:
        model: Any model; left as it was.
        x: Example inputs: a tensor, a tuple of positional inputs or a dict of keyword inputs.
        target: What remains: channels, macs or params.
        importance: `magnitude`, the L2 norm of what goes, over the layer's mean.
        scope: `global` ranks all channels together, `layer` takes the same fraction of each
            group; by default `layer` for channels, else `global`.
        exclude: Globs over module paths; these layers keep all channels that they make.
        round_to: The channels that a layer keeps are a multiple of this, rounded down; a layer
            that would keep fewer is not rounded.
        min_channels: Channels that each layer keeps at least.
        prove: Run the trial. Without it the plan says "not run".

    Raises:
        CompressError: An argument out of range, or a glob that matches nothing.
        TargetUnreachable: The removable part is too small for the target.
        TraceError: The model fails on `x`.
        UnsupportedError: Nothing in the model can be pruned.
    """
    scope = scope or ("layer" if target.quantity == "channels" else "global")
    _check(target, importance, scope, round_to, min_channels)
    names = [name for name, _ in model.named_modules() if name]
    excluded = set(match_names(exclude, names, "exclude")) if exclude else set()
    seen = trace(model, x)
    tensors = named_tensors(model)
    groups = [_exclude(group, excluded) for group in channel_groups(seen)]
    cost = RemainingCost(seen, {name for name, _ in model.named_parameters()})
    scores = IMPORTANCES[importance](groups, tensors)
    floors = Floors(round_to, min_channels)

    def choose(free: list[Group]) -> Removed:
        return Budget(free, scores, cost, floors, scope).meet(target)

    draft, trial = find_cut(Draft(model, tensors, seen, groups, {}), choose, x if prove else None)
    return draft.plan(target, cost, trial)


def _check(target: Target, importance: str, scope: str, round_to: int, min_channels: int) -> None:
    if target.quantity not in QUANTITIES:
        raise UnsupportedError(
            f"channels cannot be pruned to {target}",
            where="target",
            hint="give channels, macs or params",
        )
    if importance not in IMPORTANCES:
        hint = did_you_mean(importance, IMPORTANCES)
        raise CompressError(f"{importance!r} is not an importance", where="importance", hint=hint)
    if scope not in SCOPES:
        hint = did_you_mean(scope, SCOPES)
        raise CompressError(f"{scope!r} is not a scope", where="scope", hint=hint)
    for name, value in {"round_to": round_to, "min_channels": min_channels}.items():
        if value < 1:
            raise CompressError(f"{value} is below 1", where=name)


def _exclude(group: Group, excluded: set[str]) -> Group:
    hit = [layer for layer in group.producers if layer in excluded]
    return replace(group, frozen=f"{hit[0]} is excluded") if hit and not group.frozen else group

"""Channel pruning: make a plan, or make it and apply it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypedDict, TypeVar, Unpack, cast

import torch
from torch import nn

from torchcompress.core.errors import CompressError, UnsupportedError
from torchcompress.core.inputs import Forward, Inputs
from torchcompress.core.modules import named_tensors, unwrapped
from torchcompress.core.target import Target
from torchcompress.graph.groups import Group, channel_groups
from torchcompress.graph.macs import RemainingCost
from torchcompress.graph.record import Trace
from torchcompress.graph.tracer import trace
from torchcompress.metrics import LatencyTable
from torchcompress.pruning.arguments import ATTENTION, TIMES, check_options, check_target
from torchcompress.pruning.choice import Choice
from torchcompress.pruning.draft import Draft
from torchcompress.pruning.fitted import apply_fitted
from torchcompress.pruning.floors import Floors
from torchcompress.pruning.importance import (
    CustomImportance,
    Evidence,
    Importance,
    Loss,
    find_importance,
    score_units,
)
from torchcompress.pruning.latency import CountedLatency
from torchcompress.pruning.layer_globs import exclude_layers, globs, layer_ratios
from torchcompress.pruning.meet_time import measure_cut, meet_time
from torchcompress.pruning.plan import PruningPlan
from torchcompress.pruning.planned_latency import PlannedLatency
from torchcompress.pruning.search import find_cut
from torchcompress.pruning.surgery import check_since
from torchcompress.pruning.ties import Tie, couple_ties

M = TypeVar("M", bound=nn.Module)


class PlanOptions(TypedDict, total=False):
    """The keyword arguments of `plan_channels`, for the functions that pass them on."""

    importance: str | Importance | CustomImportance
    scope: str | None
    ratios: Mapping[str, float]
    max_removed: float
    exclude: Iterable[str]
    round_to: int
    min_channels: int
    attention: str
    latency_table: LatencyTable | None
    data: Iterable[Any] | None
    loss: Loss | None
    forward: Forward | None
    since: PruningPlan | None
    prove: bool


@torch.inference_mode(False)
def prune_channels(
    model: M,
    x: Inputs,
    target: Target,
    *,
    calibration: Iterable[Any] | None = None,
    resume: str | Path | None = None,
    inplace: bool = False,
    **options: Unpack[PlanOptions],
) -> M:
    """Returns a model with fewer channels.

    With calibration data what remains is fitted anew, without labels and without training: each
    layer from the first that lost inputs on is solved towards what it gave before (see
    `reconstruction.resolve_consumers`), and channels are ranked by `reconstruction` on the same
    data unless `importance` is given.

    Args:
        model: Any model.
        x: Example inputs.
        target: What remains.
        calibration: A few hundred unlabelled samples in batches of equal kind; the last quarter of
            the batches judges what is fitted on the others.
        resume: With calibration data, a file in which each layer that is fitted is kept; it is
            read where it exists, and may be deleted afterwards. The plan is made anew.
        inplace: Cut `model` itself.
        **options: As in `plan_channels`.

    Raises:
        CompressError: As in `plan_channels`; calibration data that is empty or not finite; a file
            of another run.
    """
    if calibration is None:
        if resume is not None:
            raise CompressError(
                "keeps layers that calibration data fits", where="resume", hint="give calibration="
            )
        return cast(M, plan_channels(model, x, target, **options).apply(model, inplace=inplace))
    batches = list(calibration) if isinstance(calibration, Iterator) else calibration
    if "importance" not in options:
        options = {**options, "importance": "reconstruction", "data": batches}
    plan = plan_channels(model, x, target, **options)
    fitted = apply_fitted(plan, model, batches, options.get("forward"), resume)
    if not inplace:
        return cast(M, fitted)
    plan.apply(model, inplace=True)
    unwrapped(model).load_state_dict(fitted.state_dict())
    return model


def plan_channels(
    model: nn.Module,
    x: Inputs,
    target: Target,
    *,
    importance: str | Importance | CustomImportance = "magnitude",
    scope: str | None = None,
    ratios: Mapping[str, float] | None = None,
    max_removed: float = 1.0,
    exclude: Iterable[str] = (),
    round_to: int = 8,
    min_channels: int = 1,
    attention: str = "heads",
    latency_table: LatencyTable | None = None,
    data: Iterable[Any] | None = None,
    loss: Loss | None = None,
    forward: Forward | None = None,
    since: PruningPlan | None = None,
    prove: bool = True,
) -> PruningPlan:
    """Plans which channels of a model go, and proves that the model works without them.

    One run of the model shows which channels are coupled. The plan meets the target from below
    and by as little as one removable unit allows. The trial then compares the pruned model with
    the original whose removed channels are zeroed at every consumer; a group that fails it is
    frozen with the reason, and the plan is made again without it. Equally long groups that fail
    alone are first tied to each other, as an attention that reshapes to the width of its input
    wants it.

    Args:
        model: Any model; left as it was. Of a compiled or parallel one the model inside is
            planned for.
        x: Example inputs: a tensor, a tuple of positional inputs or a dict of keyword inputs.
        target: What remains: channels, macs, params, or time on this machine's CPU.
        importance: What makes a channel worth keeping: `magnitude`, `bn`, `taylor`, `fisher`,
            `variance`, `reconstruction`, `lamp`, `random`, one of `pruning.importance` with
            options, such as `Magnitude(p=1)`, or a function `(groups, tensors) -> {group name:
            scores}`.
        scope: `global` ranks all channels together, `layer` takes the same fraction of each
            group, `isomorphic` the same fraction of each kind of structure; by default `layer` for
            channels, else `global`.
        ratios: The fraction kept of layers that are not to be ranked, by glob over module paths;
            where several match, the last one counts. The other layers lose what the target then
            still needs.
        max_removed: Each other layer loses at most this fraction of its channels.
        exclude: Globs over module paths; these layers keep all channels that they make.
        round_to: The channels that a layer keeps are a multiple of this, rounded down; a layer
            that would keep fewer is not rounded. It gives way to `max_removed` and `min_channels`
            where the target needs it, and the plan notes where.
        min_channels: Channels that each layer keeps at least.
        attention: What goes of an attention: whole `heads`, or `head_dims`, the same ones in each
            head. Where groups are tied, the other one where only that passes.
        latency_table: What the layers take, for a target in time; by default it is measured here,
            at one thread. The cut follows it, is measured in turns with the model, and cuts again
            until it is fast enough. A table for int8 is followed, and not measured.
        data: Batches for `taylor`, `fisher`, `variance` and `reconstruction`; a tuple or list is
            (inputs, labels). Of an iterator, which can be read once, no groups are tied.
        loss: For `taylor` and `fisher`, called with the model's output and the labels of a batch,
            or the whole batch where it is a tensor or a dict; by default the cross entropy.
        forward: How the model is called on a batch of `data`.
        since: A plan of this model before earlier cuts, such as `tc.history(model)[0]`: fractions
            in `target`, `ratios` and `max_removed` are then of what the model had before them.
        prove: Run the trial. Without it the plan says "not run".

    Raises:
        CompressError: An argument out of range, or a glob that matches nothing.
        TargetUnreachable: The removable part is too small for the target.
        TraceError: The model fails on `x`.
        UnsupportedError: Nothing in the model can be pruned.
    """
    check_target(target)
    scope = ("layer" if target.quantity == "channels" else "global") if scope is None else scope
    check_options(
        {
            "scope": scope,
            "attention": attention,
            "round_to": round_to,
            "min_channels": min_channels,
            "max_removed": max_removed,
            "ratios": ratios,
            "data": data,
            "loss": loss,
            "forward": forward,
            "since": since,
        }
    )
    before = {group.name: group.channels for group in since.groups} if since else {}
    floors = Floors(round_to, min_channels, max_removed, channels=before)
    excluded = globs(exclude, "exclude")
    if since is not None and target.quantity in TIMES:
        raise UnsupportedError("a target in time is about the model itself", where="since")
    model = unwrapped(model)
    ranking = find_importance(importance)
    tensors = named_tensors(model)
    if since is not None:
        check_since(model, since.shapes)
    parameters = {name for name, _ in model.named_parameters()}
    table = latency_table if target.quantity in TIMES else None
    if target.quantity in TIMES and table is None:
        table = LatencyTable.measure(model, x)

    def evidence(seen: Trace, groups: Sequence[Group]) -> Evidence:
        free = [group for group in groups if group.frozen is None]
        return Evidence(model, seen, free, tensors, data, loss, forward, target.quantity)

    def start(part: str, ties: Sequence[Tie] = ()) -> tuple[Draft, Choice]:
        seen = trace(model, x, attention=part)
        couple_ties(seen, ties)
        groups = exclude_layers(channel_groups(seen), excluded)
        choice = Choice(
            model=model,
            groups=groups,
            scores=score_units(ranking, evidence(seen, groups)),
            cost=RemainingCost(seen, parameters),
            floors=floors,
            scope=scope,
            ratios=layer_ratios(groups, ratios or {}),
            target=target,
            since=since,
            latency=None if table is None else partial(CountedLatency, table, seen),
        )
        return Draft(model, tensors, seen, groups, {}), choice

    def retie(ties: Sequence[Tie]) -> Iterator[tuple[Draft, Choice]]:
        for part in sorted(ATTENTION, key=attention.__ne__):
            yield start(part, ties)

    once = isinstance(data, Iterator)  # Groups cannot be scored on it again.
    tried = x if prove else None
    found = find_cut(*start(attention), tried, None if once else retie)

    def attempt(aim: float) -> PruningPlan:
        nonlocal found
        draft, choice, trial = found
        if aim != choice.aim:
            found = draft, choice, trial = find_cut(draft, replace(choice, aim=aim), tried)
        notes = choice.notes(draft.removed)
        if isinstance(ranking, Importance):
            notes = {**ranking.notes(evidence(draft.seen, choice.groups)), **notes}
        plan = replace(draft.plan(target, choice.cost, trial), notes=notes)
        predicted = choice.predicted_ms(draft.labels())
        if table is None or predicted is None:
            return plan
        return replace(plan, latency=PlannedLatency(table=table, predicted_ms=predicted))

    if table is None or table.precision != "float32":
        return attempt(1.0)
    return meet_time(attempt, partial(measure_cut, model, x=x, table=table), target)

"""Cutting until the cut model takes what was asked for."""

from collections.abc import Callable
from dataclasses import replace

from torch import nn

from torchcompress.core.errors import TargetUnreachable
from torchcompress.core.inputs import Inputs
from torchcompress.core.target import Target
from torchcompress.metrics import LatencyTable, measure_latency
from torchcompress.pruning.plan import PruningPlan

_ATTEMPTS = 6
_NEAR = 0.98
"""A cut that takes at least this share of the limit is near enough."""


def measure_cut(
    model: nn.Module, plan: PruningPlan, x: Inputs, table: LatencyTable
) -> tuple[float, float]:
    """Returns the milliseconds of a model and of its cut form, measured in turns.

    Args:
        model: The model before.
        plan: The cut.
        x: Example inputs.
        table: Says the threads and the layout.
    """
    timings = measure_latency(
        {"before": (model, x), "after": (plan.apply(model), x)},
        threads=table.threads,
        rounds=8,
        channels_last=table.layout == "channels_last",
    )
    return timings.milliseconds("before"), timings.milliseconds("after")


def meet_time(
    attempt: Callable[[float], PruningPlan],
    measure: Callable[[PruningPlan], tuple[float, float]],
    target: Target,
) -> PruningPlan:
    """Returns the plan whose cut takes what a target asks for, with the times measured.

    A prediction is only roughly right, so the next attempt aims as much lower or higher as the
    last one missed.

    Args:
        attempt: Makes a plan that aims at a multiple of the target.
        measure: Returns the milliseconds before and after the cut of a plan.
        target: The fraction of the time, or the milliseconds.

    Raises:
        TargetUnreachable: No cut is fast enough.
    """
    aim, tried, found = 1.0, list[float](), dict[float, PruningPlan]()
    for _ in range(_ATTEMPTS):
        try:
            plan = attempt(aim)
        except TargetUnreachable:
            if not tried:
                raise
            break
        before, after = measure(plan)
        limit = target.value * (before if target.quantity == "latency" else 1)
        tried.append(after / before)
        if after <= limit and after < before:
            assert plan.latency is not None
            times = replace(plan.latency, measured_ms=(before, after))
            found[after / before] = replace(plan, latency=times)
        if _NEAR * limit <= after <= limit:
            break
        aim *= limit / after
    if not found:
        raise TargetUnreachable(
            f"{target} is not reached: the fastest cut takes {100 * min(tried):.0f} % of the time",
            where=f"target.{target.quantity}",
            hint="ask for more time; what is not a layer's arithmetic is not saved",
        )
    return found[max(found)]

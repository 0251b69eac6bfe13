"""Giving sensitive layers back to float until the score holds."""

import math
from collections.abc import Callable
from dataclasses import replace

from torch import nn

from torchcompress.core.errors import CompressError
from torchcompress.quantization.drafted import Drafted, planned
from torchcompress.quantization.plan import QuantizationPlan
from torchcompress.quantization.ptq.improve import refit
from torchcompress.quantization.quantize_part import Draft
from torchcompress.quantization.sensitivity import Sensitivity, calls_of, int8_layers, rank_layers

Evaluate = Callable[[nn.Module], float]


def hold_score(
    model: nn.Module, drafted: Drafted, evaluate: Evaluate, max_drop: float
) -> QuantizationPlan:
    """Returns a plan whose score is at most so far below the float model's.

    Where the plan with every layer in int8 misses it, layers are ranked by `rank_layers`, and how
    many of the most sensitive go back to float is found by bisection: about log2 of their number
    of evaluations. The table says which ones and the scores.

    Args:
        model: The float model.
        drafted: Its parts, improved already.
        evaluate: Returns the score of a model, the higher the better; called in eval mode.
        max_drop: In the units of the score.

    Raises:
        CompressError: No int8 layer can be kept, or a score that is not finite.
    """
    wanted = _score(evaluate, drafted.found.model, "the float model") - max_drop

    def score(plan: QuantizationPlan) -> float:
        return _score(evaluate, plan.apply(model), "an int8 model")

    best = planned(drafted)
    first = score(best)
    if first >= wanted:
        return best
    ranking = rank_layers(drafted)
    low, high, reached = 0, len(ranking), first
    while high - low > 1:
        middle = (low + high) // 2
        tried = planned(_given_back(drafted, ranking, middle, "accuracy control"))
        found = score(tried)
        if found >= wanted:
            high, reached = middle, found
        else:
            low = middle
    if high == len(ranking):
        raise CompressError(
            f"the score falls below {wanted:.6g} with any layer in int8: {first:.6g} with all",
            where="max_drop",
            hint="allow a larger max_drop, calibrate on more data, or train with prepare_qat",
        )
    reason = (
        f"accuracy control: score {reached:.6g} with {high} layers in float,"
        f" {first:.6g} with none, {wanted:.6g} wanted"
    )
    return planned(_given_back(drafted, ranking, high, reason))


def _given_back(drafted: Drafted, ranking: Sensitivity, count: int, reason: str) -> Drafted:
    chosen = calls_of(ranking.rows[:count])
    drafts: dict[str, Draft] = {}
    for path, draft in drafted.drafts.items():
        ops, names = int8_layers(draft), chosen.get(path, set())
        layers = {op.layer for op in ops if op.name in names}
        made = draft.kept_float({op.output: reason for op in ops if op.layer in layers})
        batches = drafted.found.parts[path].batches
        drafts[path] = refit(made, batches, drafted.config, drafted.trials[path])
    return replace(drafted, drafts=drafts)


def _score(evaluate: Evaluate, model: nn.Module, what: str) -> float:
    value = float(evaluate(model))
    if not math.isfinite(value):
        raise CompressError(f"is {value} for {what}", where="evaluate", hint="return a number")
    return value

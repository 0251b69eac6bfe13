"""Finding modules whose own code takes another path in train mode."""

import dis
import inspect
from dataclasses import replace
from itertools import pairwise
from typing import Any

from torch import nn

from torchcompress.core.errors import TraceError
from torchcompress.core.inputs import Inputs
from torchcompress.graph.running import Conditions, random_state, run_model
from torchcompress.graph.steady import Steps

_DROPS_OR_NORMS = ("torch.nn.", "torchvision.ops.")
"""Where modules read `training` only to drop something or to take statistics."""

_DECIDES = ("JUMP", "BOOL", "NOT", "STORE")
"""In the names of the instructions that branch on a value or keep it."""


def training_readers(model: nn.Module) -> tuple[str, ...]:
    """Returns the modules with a method that branches on `training`, outermost first."""
    reads = {kind: _reads_training(kind) for kind in {type(m) for m in model.modules()}}
    return tuple(path for path, module in model.named_modules() if reads[type(module)])


def _reads_training(kind: type[nn.Module]) -> bool:
    own = [base for base in kind.__mro__ if issubclass(base, nn.Module)]
    if own[0].__module__.startswith(_DROPS_OR_NORMS):
        return False
    methods = (
        inspect.unwrap(value)
        for base in own
        if not base.__module__.startswith("torch.nn.")
        for value in vars(base).values()
        if inspect.isfunction(value)
    )
    return any(map(_branches, methods))


def _branches(method: Any) -> bool:
    """Whether a function does more with `training` than hand it on, as to a dropout."""
    if "training" not in method.__code__.co_names:
        return False
    return any(
        step.argval == "training" and any(word in after.opname for word in _DECIDES)
        for step, after in pairwise(dis.get_instructions(method))
    )


def branches_in_training(
    model: nn.Module, x: Inputs, conditions: Conditions, steps: list[str]
) -> bool:
    """Whether a model runs other operations in train mode, and its numbers can be compared.

    Where it draws random numbers they cannot: a smaller model draws others.

    Args:
        model: A model; left as it was.
        x: Example inputs.
        conditions: Those of train mode.
        steps: The operations that it runs in eval mode.
    """
    own, run = replace(conditions, writes=True).copy(model), Steps()
    try:
        with conditions.hold(own):
            before = random_state()
            with run:
                run_model(own, x)
            drew = random_state() != before
    except TraceError:  # Training takes more than the example input.
        return False
    return not drew and run.steps != steps

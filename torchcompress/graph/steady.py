"""Refusing a model whose path hangs on random numbers."""

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from torchcompress.core.errors import TraceError
from torchcompress.core.inputs import Inputs
from torchcompress.graph.dispatch import CountedRun
from torchcompress.graph.running import Conditions, run_model

RUNS = 8
"""A branch taken half of the time is missed once in 2 to the power of this."""


def check_steady(model: nn.Module, x: Inputs, conditions: Conditions, steps: list[str]) -> None:
    """Runs a model with other random numbers and checks that it takes the same path.

    Args:
        model: A model that draws random numbers; left as it was.
        x: Example inputs.
        conditions: Under what it ran.
        steps: The operations that it ran.

    Raises:
        TraceError: Another path was taken.
    """
    for seed in range(1, RUNS + 1):
        own = conditions.copy(model)
        run = Steps()
        with replace(conditions, seed=seed).hold(own), run:
            run_model(own, x)
        if run.steps != steps:
            raise TraceError(
                "the forward pass takes random branches in eval mode",
                where=type(model).__name__,
                hint="take them in train mode only: `if self.training and ...`",
            )


class Steps(CountedRun):
    """Notes the operations of a run."""

    def run(
        self, func: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Runs one operation."""
        return func(*args, **kwargs)

"""The oracle of channel pruning: the original with what a plan removes set to zero."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from torchcompress.core.modules import named_tensors
from torchcompress.pruning import PruningPlan

Oracle = Callable[[nn.Module, Any, PruningPlan], Any]


def zeroed_output(model: nn.Module, x: Any, plan: PruningPlan) -> Any:
    """Runs the original with every slice that the plan removes set to zero.

    A zero in the column of a weight is a zero at that consumer's input; a zero in the rows of its
    producer is one where products have no weight. Only `plan.removed` is asked. Under weight norm
    the rows of the producer have a length of zero; the directions say how long a row is not.
    """
    silent = copy.deepcopy(model)
    tensors = named_tensors(silent)
    with torch.no_grad():
        for name, dims in plan.removed.items():
            for dim, gone in dims.items():
                if not name.endswith(("weight.original1", "weight_v")):
                    tensors[name].index_fill_(dim, torch.tensor(gone), 0)
        return silent(*x) if isinstance(x, tuple) else silent(x)


@pytest.fixture
def oracle() -> Oracle:
    return zeroed_output

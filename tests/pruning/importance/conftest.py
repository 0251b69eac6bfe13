"""Scoring a whole model with one importance."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from torch import nn

from torchcompress.core.inputs import Forward, Inputs
from torchcompress.core.modules import named_tensors
from torchcompress.graph import channel_groups, trace
from torchcompress.pruning.importance import Evidence, Importance, Loss, Scores

Score = Callable[..., Scores]


def score_model(
    model: nn.Module,
    x: Inputs,
    importance: Importance,
    data: Iterable[Any] | None = None,
    loss: Loss | None = None,
    forward: Forward | None = None,
) -> Scores:
    """Returns the scores of the groups that may lose units."""
    seen = trace(model, x)
    free = [group for group in channel_groups(seen) if group.frozen is None]
    tensors = named_tensors(model)
    return importance.scores(Evidence(model, seen, free, tensors, data, loss, forward))


@pytest.fixture
def score() -> Score:
    return score_model

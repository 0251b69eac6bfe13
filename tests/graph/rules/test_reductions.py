"""Reductions between layers: the pruned model against the reduction of the channels kept."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torchcompress import Target
from torchcompress.graph import channel_groups, trace
from torchcompress.pruning import PruningPlan, plan_channels

x = torch.randn(2, 3, 8, 8)

Reduce = Callable[[Tensor], Tensor]


class Gate(nn.Module):
    """Gates its channels by a map made of a statistic over them, as CBAM does."""

    def __init__(self, reduce: Reduce) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.reduce = reduce
        self.first = nn.Conv2d(3, 16, 3)
        self.gate = nn.Conv2d(1, 1, 3, padding=1)
        self.last = nn.Conv2d(16, 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        return self.last(hidden * self.gate(self.reduce(hidden)).sigmoid())


class Between(nn.Module):
    """Two layers around an operation that keeps the shape."""

    def __init__(self, along: Reduce) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.along = along
        self.first = nn.Conv2d(3, 16, 3)
        self.last = nn.Conv2d(16, 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.along(self.first(x)))


def kept(plan: PruningPlan) -> list[int]:
    return [c for c in range(16) if c not in plan.removed["first.weight"][0]]


EXACT: dict[str, Reduce] = {
    "sum": lambda h: h.sum(1, keepdim=True),
    "nansum": lambda h: h.nansum(1, keepdim=True),
    "l2": lambda h: h.norm(dim=1, keepdim=True),
    "l1": lambda h: torch.linalg.vector_norm(h, 1, 1, keepdim=True),
    "largest": lambda h: torch.linalg.vector_norm(h, float("inf"), 1, keepdim=True),
    "any": lambda h: (h > 1).any(1, keepdim=True).float(),
    "count": lambda h: h.clamp_min(0).count_nonzero(1)[:, None].float(),
}
INEXACT: dict[str, Reduce] = {
    "mean": lambda h: h.mean(-3, keepdim=True),
    "squeezed": lambda h: h.mean(1)[:, None],
    "amax": lambda h: h.amax(1, keepdim=True),
    "amin": lambda h: h.amin((1,), keepdim=True),
    "max": lambda h: h.max(1, keepdim=True).values,
    "min": lambda h: h.min(1, keepdim=True)[0],
    "median": lambda h: h.median(1, keepdim=True).values,
    "aminmax": lambda h: h.aminmax(dim=1, keepdim=True).max,
    "var": lambda h: h.var(1, keepdim=True),
    "std": lambda h: h.std(1, keepdim=True, correction=0),
    "var_mean": lambda h: torch.var_mean(h, 1, keepdim=True)[0],
    "std_mean": lambda h: torch.std_mean(h, 1, keepdim=True)[0],
    "prod": lambda h: h.prod(1, keepdim=True),
    "all": lambda h: (h > -1).all(1, keepdim=True).float(),
    "logsumexp": lambda h: h.logsumexp(1, keepdim=True),
    "least": lambda h: torch.linalg.vector_norm(h, float("-inf"), 1, keepdim=True),
    "everything": lambda h: h.mean().expand(len(h), 1, 1, 1),
}


@pytest.mark.parametrize("name", [*EXACT, *INEXACT])
def test_a_statistic_is_that_of_the_channels_kept(name: str) -> None:
    reduce = {**EXACT, **INEXACT}[name]
    model = Gate(reduce)
    plan = plan_channels(model, x, Target(channels=0.5))
    left = kept(plan)
    assert len(left) == 8
    assert bool(plan.inexact) == (name in INEXACT)
    with torch.no_grad():
        hidden = model.first(x)[:, left]
        hidden = hidden * model.gate(reduce(hidden)).sigmoid()
        expected = F.conv2d(hidden, model.last.weight[:, left], model.last.bias)
        if name in EXACT:
            gone = [c for c in range(16) if c not in left]
            zeroed = model.first(x).index_fill(1, torch.tensor(gone), 0)
            zeroed = model.last(zeroed * model.gate(reduce(zeroed)).sigmoid())
            assert torch.allclose(zeroed, expected, atol=1e-5)
    assert torch.allclose(plan.apply(model)(x), expected, atol=1e-5)


ALONG: dict[str, Reduce] = {
    "softmax": lambda h: h.softmax(1),
    "log_softmax": lambda h: F.log_softmax(h, -3),
    "safe_softmax": lambda h: torch.ops.aten._safe_softmax(h, 1),
    "cumsum": lambda h: h.cumsum(1),
    "cumprod": lambda h: h.cumprod(1),
    "logcumsumexp": lambda h: h.logcumsumexp(1),
    "normalize": lambda h: F.normalize(h, dim=1),
    "written out": lambda h: (h - h.mean(1, keepdim=True)) / (h.var(1, keepdim=True) + 1e-5).sqrt(),
    "cosine": lambda h: h * F.cosine_similarity(h, h.relu(), dim=1)[:, None],
    "positions": lambda h: h.flatten(2).softmax(2).view(h.shape),
}


@pytest.mark.parametrize("name", ALONG)
def test_what_keeps_the_shape_leaves_out_what_is_gone(name: str) -> None:
    along = ALONG[name]
    model = Between(along)
    plan = plan_channels(model, x, Target(channels=0.5))
    left = kept(plan)
    exact = {"cumsum", "normalize", "cosine", "positions"}
    assert bool(plan.inexact) == (name not in exact)
    with torch.no_grad():
        hidden = along(model.first(x)[:, left])
        expected = F.conv2d(hidden, model.last.weight[:, left], model.last.bias)
    assert torch.allclose(plan.apply(model)(x), expected, rtol=1e-4, atol=1e-5)


def test_a_search_freezes_what_it_numbers() -> None:
    model = Between(lambda h: h * h.argmax(1, keepdim=True))
    groups = {group.name: group for group in channel_groups(trace(model, x))}
    assert groups["first"].frozen == "is numbered by the result of a search"


def test_a_count_in_the_code_is_caught_by_the_trial() -> None:
    """A mean that divides by a size of the traced run is not the mean of what is left."""
    model = Between(lambda h: h - h.sum(1, keepdim=True) / 16)
    plan = plan_channels(model, x, Target(channels=0.5))
    assert plan.removed["first.weight"][0] == plan.removed["last.weight"][1]


class Standardised(nn.Conv2d):
    """A convolution whose weights are standardised over their inputs (Qiao et al. 2019)."""

    def forward(self, input: Tensor) -> Tensor:
        variance, mean = torch.var_mean(self.weight, (1, 2, 3), keepdim=True)
        return F.conv2d(input, (self.weight - mean) / (variance + 1e-5).sqrt(), self.bias)


def test_weights_that_are_standardised_are_so_over_the_inputs_left() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), Standardised(16, 5, 3))
    plan = plan_channels(model, x, Target(channels=0.5))
    left = [c for c in range(16) if c not in plan.removed["0.weight"][0]]
    with torch.no_grad():
        variance, mean = torch.var_mean(
            model.get_parameter("2.weight")[:, left], (1, 2, 3), keepdim=True
        )
        weight = (model.get_parameter("2.weight")[:, left] - mean) / (variance + 1e-5).sqrt()
        expected = F.conv2d(model[:2](x)[:, left], weight, model.get_parameter("2.bias"))
    assert torch.allclose(plan.apply(model)(x), expected, atol=1e-5)
    assert plan.inexact.keys() == {"0"}

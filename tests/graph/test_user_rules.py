"""What users add: a rule for an operation of their own, a mend for a module of their own."""

import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from torchcompress import Target
from torchcompress.errors import CompressError, ExtensionError, UnsupportedError
from torchcompress.graph import Context, Labels, Mask, count_macs, rule, trace
from torchcompress.pruning import Remaining, adapt, mend, plan_channels

x = torch.randn(2, 8)


@torch.library.custom_op("user_rules::shrink", mutates_args=())
def shrink(x: Tensor, scale: Tensor) -> Tensor:
    return (x * scale).relu()


@torch.library.custom_op("user_rules::project", mutates_args=())
def project(x: Tensor, weight: Tensor) -> Tensor:
    return x @ weight.T


@torch.library.custom_op("user_rules::unknown", mutates_args=())
def unknown(x: Tensor) -> Tensor:
    return x.flip(-1)


@rule("user_rules.shrink")
def shrink_rule(ctx: Context, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> None:
    labels = ctx.labels(args[0])
    ctx.couplings.couple(labels.dims[-1], ctx.labels(args[1]).dims[0], "meets a fixed scale")
    ctx.set(out, labels)


@rule("user_rules.project")
def project_rule(ctx: Context, args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> None:
    inputs, weight = args
    read, (made, own) = ctx.labels(inputs).dims[-1], ctx.labels(weight).dims
    ctx.couplings.couple(read, own, "is summed with a fixed size")
    axes = [(inputs.shape[0], None), (weight.shape[0], made), (weight.shape[1], own)]
    masks = [] if read is None else [Mask(0, 1, read)]
    ctx.contraction(ctx.name(weight), out, axes, masks, made)
    ctx.set(out, Labels((None, made)))


class OwnOperations(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 16)
        self.scale = nn.Parameter(torch.rand(16) + 0.5)
        self.weight = nn.Parameter(torch.randn(12, 16))
        self.last = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(project(shrink(self.first(x), self.scale), self.weight).sigmoid())


def test_a_rule_lets_channels_through_an_operation_of_ones_own() -> None:
    model = OwnOperations()
    plan = plan_channels(model, x, Target(channels=0.5), round_to=1)
    pruned = plan.apply(model)
    assert {name: tuple(t.shape) for name, t in pruned.state_dict().items()} == {
        "first.weight": (8, 8), "first.bias": (8,), "scale": (8,), "weight": (6, 8),
        "last.weight": (3, 6), "last.bias": (3,),
    }  # fmt: skip
    silent = OwnOperations()
    silent.load_state_dict(model.state_dict())
    with torch.no_grad():
        silent.weight[:, plan.removed["weight"][1]] = 0
        silent.last.weight[:, plan.removed["last.weight"][1]] = 0
        assert torch.allclose(pruned(x), silent(x), atol=1e-6)


def test_a_contraction_of_ones_own_counts_and_makes_channels() -> None:
    assert count_macs(OwnOperations(), x) == 2 * (8 * 16 + 16 * 12 + 12 * 3)
    assert [c.weight for c in trace(OwnOperations(), x).contractions] == [
        "first.weight", "weight", "last.weight",
    ]  # fmt: skip


def test_an_operation_without_a_rule_freezes_by_name() -> None:
    class Unknown(nn.Sequential):
        def forward(self, input: Tensor) -> Tensor:
            return self[2](self[1](unknown(self[0](input))))

    model = Unknown(nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 3))
    plan = plan_channels(model, x, Target(channels=0.5))
    assert plan.frozen["0"] == "meets user_rules.unknown, which has no rule"
    assert {group.name for group in plan.groups if not group.frozen} == {"1"}


class Rows(nn.Module):
    """A module whose forward pass reads the width that it was made with."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.inner = nn.Linear(8, width)
        self.last = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.inner(x).relu().view(-1, self.width))


class MendedRows(Rows):
    pass


@mend(MendedRows)
def mend_rows(module: MendedRows, remaining: Remaining) -> dict[str, int]:
    return {"width": remaining.shapes["inner.weight"][0]}


def test_a_mend_lets_a_module_repeat_its_size() -> None:
    with pytest.raises(UnsupportedError, match="inner fails its trial"):
        plan_channels(Rows(16), x, Target(channels=0.5))
    plan = plan_channels(MendedRows(16), x, Target(channels=0.5))
    assert plan.mends[""] == {"width": 8}
    pruned = plan.apply(MendedRows(16))
    assert pruned.width == pruned.get_parameter("last.weight").shape[1] == 8
    assert pruned(x).shape == (2, 3)


def _width(remaining: Remaining) -> int:
    return remaining.shapes["inner.weight"][0]


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (lambda module, remaining: {"width": 1 // 0}, "raises ZeroDivisionError"),
        (lambda module, remaining: None, "returns None, not a dict"),
        (lambda module, remaining: [8], r"returns \[8\], not a dict"),
        (lambda module, remaining: {"widht": 8}, "sets 'widht', which the module does not have"),
        (
            lambda module, remaining: {"width": np.int64(_width(remaining))},
            "sets width = 16",
        ),
        (
            lambda module, remaining: {"width": torch.tensor(_width(remaining))},
            "sets width = 16",
        ),
        (lambda module, remaining: {"width": True}, "sets width = 16 to True"),
        (lambda module, remaining: {"width": 99}, "sets width = 16 to 99"),
    ],
)
def test_a_mend_that_is_wrong_freezes_what_it_mends(wrong: Any, why: str) -> None:
    class Wrong(Rows):
        pass

    mend(Wrong)(wrong)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8), Wrong(16))
    plan = plan_channels(model, x, Target(channels=0.75), round_to=1)
    assert re.search(f"the mend of Wrong {why}", plan.frozen["3.inner"])
    assert set(plan.removed) == {"0.weight", "0.bias", "2.weight"}
    assert plan.apply(model)(x).shape == (2, 3)
    with pytest.raises(ExtensionError, match=f"the mend of Wrong {why}"):
        plan_channels(model, x, Target(channels=0.75), round_to=1, prove=False)


@rule("user_rules.unsound")
def unsound_rule(ctx: Context, args: Any, kwargs: Any, out: Tensor) -> None:
    raise ValueError("boo")


@torch.library.custom_op("user_rules::unsound", mutates_args=())
def unsound(x: Tensor) -> Tensor:
    return x.relu()


def test_a_rule_that_raises_is_named() -> None:
    class Unsound(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return unsound(super().forward(input))

    with pytest.raises(ExtensionError, match=r"rules\.unsound: the rule raises ValueError: boo"):
        trace(Unsound(8, 3), x)


@pytest.mark.parametrize("register", [mend, adapt, rule])
def test_a_decorator_without_what_it_is_for_is_refused(register: Any) -> None:
    def function(*_: Any) -> None:
        raise AssertionError

    for given in ((), (function,), ("relu",), (3,), (nn.Linear(2, 2),)):
        with pytest.raises(CompressError, match=f"@{register.__name__}: takes"):
            register(*given)

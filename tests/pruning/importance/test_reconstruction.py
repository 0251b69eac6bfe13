from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from torchcompress import Target, prune_channels
from torchcompress.errors import CalibrationError, CompressError
from torchcompress.graph import channel_groups, trace
from torchcompress.pruning import plan_channels
from torchcompress.pruning.importance.cheapest import rank_cheapest_first
from torchcompress.pruning.importance.error_curves import ErrorCurve, ErrorCurves
from torchcompress.reconstruction.capture import Calibration

torch.manual_seed(0)
BATCHES = [torch.randn(32, 3, 6, 6) for _ in range(4)]
x = BATCHES[0][:2]


class Block(nn.Module):
    """A stem, a residual branch with a depthwise and a grouped convolution, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.up = nn.Conv2d(8, 16, 1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.depth = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.down = nn.Conv2d(16, 8, 1)
        self.grouped = nn.Conv2d(8, 8, 3, groups=2)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = x + self.down(self.depth(self.norm(self.up(x)).relu()).relu())
        return self.head(self.grouped(x).relu().mean((2, 3)))


def repeated(model: Block) -> Block:
    """Makes the second half of the inner channels copies of the first, read at other strengths."""
    with torch.no_grad():
        for name in ("up.weight", "norm.weight", "norm.bias", "depth.weight", "depth.bias"):
            tensor = model.get_parameter(name)
            tensor[8:] = tensor[:8]
    return model.eval()


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def test_it_is_the_default_with_calibration_data_and_restores_what_is_redundant() -> None:
    dense = repeated(Block())
    options: Any = {"round_to": 1, "ratios": {"up": 0.5}, "exclude": ["stem", "grouped"]}
    pruned = prune_channels(dense, x, Target(macs=0.9), calibration=BATCHES, **options)
    assert pruned.up.out_channels == 8
    held = torch.randn(16, 3, 6, 6)
    assert torch.allclose(pruned(held), dense(held), atol=1e-3)
    plain = prune_channels(dense, x, Target(macs=0.9), **options)
    assert not torch.allclose(plain(held), dense(held), atol=1e-2)


def test_a_named_importance_is_used_with_calibration_data_too() -> None:
    dense = Block().eval()
    target = Target(channels=0.5)
    fitted = prune_channels(dense, x, target, importance="magnitude", calibration=BATCHES)
    plain = plan_channels(dense, x, target, importance="magnitude").apply(dense)
    assert torch.equal(fitted.stem.weight, plain.get_parameter("stem.weight"))


def test_an_iterator_is_read_once() -> None:
    dense = Block().eval()
    pruned = prune_channels(dense, x, Target(channels=0.5), calibration=iter(BATCHES))
    again = prune_channels(dense, x, Target(channels=0.5), calibration=BATCHES)
    for name, tensor in pruned.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])


def test_curves_say_what_the_outputs_lose_and_leave_the_model_alone() -> None:
    model = Block().eval()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    curves = ErrorCurves(model, Calibration(BATCHES, model))
    groups = [g for g in channel_groups(trace(model, x)) if g.frozen is None]
    for group in groups:
        curve = curves.of(group)
        assert curve is not None
        assert sorted(curve.order) == list(range(group.units))
        assert curve.errors[0] == 0
        assert (np.diff(curve.errors) >= 0).all()
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())


def test_a_measured_level_is_the_error_of_the_model_with_the_units_gone() -> None:
    model = Block().eval()
    curves = ErrorCurves(model, Calibration(BATCHES, model))
    (group,) = [g for g in channel_groups(trace(model, x)) if g.name == "up"]
    curve = curves.of(group)
    assert curve is not None
    gone = curve.order[:8]
    twin = Block().eval()
    twin.load_state_dict(model.state_dict())
    bias = twin.down.bias
    assert bias is not None
    with torch.no_grad():
        seen: list[Tensor] = []
        twin.down.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        twin(torch.cat(BATCHES[:3]))
        rows = seen[0].movedim(1, -1).flatten(0, -2).double()
        left = np.setdiff1d(np.arange(16), gone)
        design = torch.cat([rows[:, left], torch.ones(len(rows), 1)], 1)
        wanted = rows @ twin.down.weight[:, :, 0, 0].T.double() + bias
        solved = torch.linalg.lstsq(design, wanted).solution
        twin.down.weight.zero_()
        twin.down.weight[:, left, 0, 0] = solved[:-1].T.float()
        bias.copy_(solved[-1])
        held = BATCHES[3]
        error = (twin(held) - model(held)).square().sum() / model(held).square().sum()
    assert curve.errors[8] == pytest.approx(float(error), rel=0.1)


def test_the_cheapest_units_go_first_for_what_they_save() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1)
    ).eval()
    groups = [g for g in channel_groups(trace(model, x)) if g.frozen is None]
    orders = [np.array([2, 0, 1, 3]), np.array([3, 2, 1, 0])]
    costs = [np.array([0, 1.0, 3, 6]), np.array([0, 0.1, 4, 9])]
    curves = [ErrorCurve(order, cost) for order, cost in zip(orders, costs, strict=True)]
    terms = [(1, [group.labels]) for group in groups]
    scores = rank_cheapest_first(groups, curves, terms)
    every = [(score, g.name, i) for g in groups for i, score in enumerate(scores[g.name])]
    first, second = groups[0].name, groups[1].name
    assert [place[1:] for place in sorted(every)[:4]] == [
        (second, 3), (first, 2), (first, 0), (first, 1),
    ]  # fmt: skip


def test_without_batches_it_says_so() -> None:
    with pytest.raises(CompressError, match="needs batches"):
        plan_channels(Block(), x, Target(macs=0.5), importance="reconstruction")


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "yielded nothing"),
        ([BATCHES[0], torch.full((2, 3, 6, 6), float("nan"))], "batch 1: the input is not finite"),
        ([BATCHES[0], torch.randn(2, 5, 6, 6)], "batch 1: the model fails on it"),
    ],
)
def test_calibration_data_that_does_not_fit_is_named(batches: list[Tensor], message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        prune_channels(Block(), x, Target(macs=0.5), calibration=batches)

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from torchcompress import Target
from torchcompress.core.plan import plan_from_json, plan_to_json
from torchcompress.errors import CompressError, TargetUnreachable
from torchcompress.graph import channel_groups, trace
from torchcompress.metrics import LatencyTable, LayerTimes
from torchcompress.pruning import PruningPlan, plan_channels
from torchcompress.pruning.latency import CountedLatency, scores_by_time
from torchcompress.pruning.meet_time import meet_time
from torchcompress.pruning.planned_latency import PlannedLatency


class Chain(nn.Module):
    """Two hidden widths; the second layer has the wider map and so takes most of the time."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 64, 3, padding=1)
        self.c = nn.Conv2d(64, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(self.a(x).relu()).relu())


X = torch.randn(1, 3, 8, 8)


def times(inputs: tuple[int, ...], outputs: tuple[int, ...], each: float) -> LayerTimes:
    return LayerTimes(inputs, outputs, tuple(tuple(each * n * m for m in outputs) for n in inputs))


def made_up_table(model_ms: float = 30.0, precision: str = "made up") -> LatencyTable:
    """Layers that take 1, 8 and 2 ms."""
    return LatencyTable(
        model_ms=model_ms,
        layers={
            "a": (times((3,), (8, 32), 1 / 96),),
            "b": (times((8, 32), (8, 64), 8 / 2048),),
            "c": (times((8, 64), (8,), 2 / 512),),
        },
        threads=1,
        layout="contiguous",
        precision=precision,
    )


def counted(table: LatencyTable) -> CountedLatency:
    seen = trace(Chain(), X)
    free = [group for group in channel_groups(seen) if group.frozen is None]
    assert [group.name for group in free] == ["a", "b"]
    return CountedLatency(table, seen, [group.labels for group in free])


def test_a_time_is_that_of_the_layers_and_of_what_follows_their_outputs() -> None:
    latency = counted(made_up_table())
    assert latency(np.array([0, 0])) == pytest.approx(30)
    layers = 0.5 + 8 / 4 + 2 / 2
    assert latency(np.array([16, 32])) == pytest.approx(layers + 19 * (16 + 32 + 8) / (32 + 64 + 8))


def test_layers_that_take_longer_alone_than_the_model_are_scaled() -> None:
    latency = counted(made_up_table(5.5))
    assert latency(np.array([0, 0])) == pytest.approx(5.5)
    assert latency(np.array([16, 32])) == pytest.approx((0.5 + 8 / 4 + 2 / 2) / 2)


def test_a_unit_counts_less_where_time_goes_and_more_where_few_are_left() -> None:
    model = Chain()
    free = [group for group in channel_groups(trace(model, X)) if group.frozen is None]
    scores = {"a": np.linspace(1, 2, 32), "b": np.linspace(2, 1, 64)}
    weighed = scores_by_time(scores, free, np.array([24, 56]), counted(made_up_table(11)))
    assert (np.diff(weighed["a"]) > 0).all()
    assert (np.diff(weighed["b"]) < 0).all()
    saved_b = 11 - (1 + 8 / 8 + 2 / 8)
    assert weighed["b"][-1] == pytest.approx(1 / saved_b**0.5)
    assert weighed["b"][-2] == pytest.approx(scores["b"][-2] / (saved_b**0.5 * (63 / 64)))


def test_a_plan_follows_a_table_and_stores_it() -> None:
    table = made_up_table(11)
    plan = plan_channels(Chain(), X, Target(latency=0.5), latency_table=table, round_to=1)
    assert plan.latency is not None
    assert plan.latency.measured_ms is None
    assert 0.9 * 5.5 <= plan.latency.predicted_ms <= 5.5
    kept = {group.name: group.kept for group in plan.groups}
    a, b = kept["a"], kept["b"]
    assert plan.latency.predicted_ms == pytest.approx(a / 32 + 8 * a * b / 2048 + 2 * b / 64)
    assert f"latency: 11 -> {plan.latency.predicted_ms:.3g} ms" in str(plan)
    assert "by the table" in str(plan)
    assert plan_from_json(plan_to_json(plan)) == plan
    same = plan_channels(Chain(), X, Target(latency_ms=5.5), latency_table=table, round_to=1)
    assert same.removed == plan.removed


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        (Target(latency=0.001), TargetUnreachable, r"ask for latency=0\.\d+ or more"),
        (Target(latency_ms=0.001), TargetUnreachable, r"ask for latency_ms=0\.\d+ or more"),
        (Target(latency_ms=12), CompressError, "12 latency_ms are more than the model has"),
    ],
)
def test_times_that_cannot_be_met_are_refused(
    target: Target, error: type[CompressError], message: str
) -> None:
    with pytest.raises(error, match=message):
        plan_channels(Chain(), X, target, latency_table=made_up_table(11))


def test_a_cut_is_measured_against_the_model_and_is_faster() -> None:
    torch.manual_seed(0)
    layers = [
        (nn.Conv2d(before, after, 3, padding=1), nn.ReLU())
        for before, after in itertools.pairwise((3, 64, 64, 64))
    ]
    model = nn.Sequential(*itertools.chain(*layers), nn.Conv2d(64, 4, 1)).eval()
    plan = plan_channels(model, torch.randn(1, 3, 16, 16), Target(latency=0.8))
    assert plan.latency is not None
    assert plan.latency.measured_ms is not None
    before, after = plan.latency.measured_ms
    assert after <= 0.8 * before
    assert "measured in turns" in str(plan)
    assert plan_from_json(plan_to_json(plan)) == plan


@pytest.mark.parametrize("miss", [0.5, 0.9, 1.0, 1.6])
def test_the_aim_is_corrected_until_the_time_is_met(miss: float) -> None:
    plain = plan_channels(Chain(), X, Target(channels=0.5), prove=False)

    def attempt(aim: float) -> PruningPlan:
        timed = PlannedLatency(table=made_up_table(), predicted_ms=10 * 0.5 * aim)
        return PruningPlan(**{**vars(plain), "latency": timed})

    def measure(plan: PruningPlan) -> tuple[float, float]:
        assert plan.latency is not None
        return 10.0, miss * plan.latency.predicted_ms

    plan = meet_time(attempt, measure, Target(latency=0.5))
    assert plan.latency is not None
    assert plan.latency.measured_ms is not None
    assert 4.9 - 1e-9 <= plan.latency.measured_ms[1] <= 5 + 1e-9


def test_a_machine_on_which_no_cut_is_faster_is_an_error() -> None:
    plain = plan_channels(Chain(), X, Target(channels=0.5), prove=False)
    timed = PlannedLatency(table=made_up_table(), predicted_ms=5.0)
    plan = PruningPlan(**{**vars(plain), "latency": timed})
    with pytest.raises(TargetUnreachable, match="the fastest cut takes 110 %"):
        meet_time(lambda aim: plan, lambda plan: (10.0, 11.0), Target(latency=0.5))

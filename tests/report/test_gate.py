from dataclasses import replace

import pytest

from torchcompress.metrics.latency import Ratio
from torchcompress.metrics.measure import Measurement
from torchcompress.report.gate import judge

BEFORE = Measurement(accuracy=0.9, file_bytes=40_000_000, params=1, macs=1)
AFTER = replace(BEFORE, accuracy=0.885, file_bytes=5_000_000)
FAST = Ratio(4.0, 3.8, 4.2)


def test_limits_are_met_at_their_very_value() -> None:
    gate = judge(BEFORE, AFTER, FAST, max_accuracy_drop=1.5, min_speedup=4.0, max_file_mb=5.0)
    assert gate.passed
    assert [(c.name, c.limit, c.value) for c in gate.checks] == [
        ("max_accuracy_drop", 1.5, pytest.approx(1.5)),
        ("min_speedup", 4.0, 4.0),
        ("max_file_mb", 5.0, 5.0),
    ]


@pytest.mark.parametrize(
    "limit", [{"max_accuracy_drop": 1.49}, {"min_speedup": 4.3}, {"max_file_mb": 4.9}]
)
def test_each_limit_can_be_missed(limit: dict[str, float]) -> None:
    gate = judge(BEFORE, AFTER, FAST, **limit)
    assert not gate.passed
    assert [c.name for c in gate.checks] == list(limit)


def test_a_speed_gate_fails_only_where_the_whole_interval_is_below() -> None:
    assert judge(BEFORE, AFTER, FAST, min_speedup=4.1).passed
    assert not judge(BEFORE, AFTER, FAST, min_speedup=4.21).passed


def test_an_accuracy_that_rose_is_no_drop() -> None:
    assert judge(AFTER, BEFORE, FAST, max_accuracy_drop=0).passed


def test_nothing_asked_is_passed() -> None:
    gate = judge(BEFORE, AFTER, FAST)
    assert gate.passed
    assert gate.checks == []


def test_a_gate_without_accuracies_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="accuracies"):
        judge(replace(BEFORE, accuracy=None), AFTER, FAST)

import re
from collections.abc import Callable
from dataclasses import replace

from torchcompress.metrics.latency import Ratio
from torchcompress.report.notes import notes
from torchcompress.report.record import GateCheck, Report
from torchcompress.report.summary import summary_rows
from torchcompress.report.text import report_to_text, text_table
from torchcompress.report.words import count, faster, gate_words, milliseconds, smaller


def test_accuracy_file_macs_and_latency_come_first(sample_report: Callable[..., Report]) -> None:
    rows = summary_rows(sample_report())
    assert [r.name for r in rows[:4]] == [
        "accuracy",
        "file",
        "MACs",
        "latency, 1 thread, batch 1",
    ]
    assert rows[0].change == "-0.57 points"
    assert rows[1].change == "16.0x smaller"
    assert rows[3].gate == "a speed-up of at least 3.5x"
    lines = report_to_text(sample_report()).splitlines()
    assert [line.split()[0].rstrip(",") for line in lines[4:8]] == [
        "accuracy",
        "file",
        "MACs",
        "latency",
    ]


def test_the_gate_is_said_last(sample_report: Callable[..., Report]) -> None:
    assert report_to_text(sample_report()).endswith("gate: passed")
    missed = report_to_text(sample_report(max_file_mb=2))
    assert missed.endswith("gate: MISSED, asked at most 2 MB, got 2.8 MB")
    unfinished = replace(sample_report(), gate=None)
    assert report_to_text(unfinished).endswith("the run has not finished")


def test_what_did_not_get_better_is_said(sample_report: Callable[..., Report]) -> None:
    good = sample_report()
    assert notes(good) == []
    same = replace(good, after=replace(good.after, macs=good.before.macs, file_bytes=10**9))
    assert notes(same) == [
        "The file grew: 44.73 MB before, 1000.00 MB after.",
        "The number of MACs did not get smaller: 37.2 M.",
    ]
    slower = notes(sample_report(speedup=0.5))
    assert slower[0] == "It got slower with 1 thread, batch 1: 2.10 ms before, 4.20 ms after."
    assert len(slower) == 3
    assert notes(sample_report(speedup=1.0))[0].startswith("It is not measurably faster")


def test_zeros_are_said_to_bring_no_speed(sample_report: Callable[..., Report]) -> None:
    report = sample_report()
    assert "zeros" not in report_to_text(report)
    first, second, third = report.stages
    sparse = replace(second, kind="prune.weights", zeros=2_430_000, file_bytes=1_500_000)
    stages = [first, sparse, replace(third, zeros=2_430_000)]
    report = replace(report, stages=stages, after=stages[-1])
    (said,) = notes(report)
    assert said.startswith("90.00 % of the parameters are zero, which brings no speed on a CPU")
    assert said.endswith("what got smaller with them is the file: 10.90 MB before, 1.50 MB after.")
    lines = report_to_text(report).splitlines()
    rows = [re.split(r"  +", line) for line in lines if line.startswith("zeros")]
    assert rows == [
        ["zeros", "0.00 %", "90.00 %", "no faster on a CPU"],
        ["zeros", "0.00 %", "0.00 %", "90.00 %", "90.00 %"],
    ]
    larger = replace(report, stages=[first, replace(sparse, file_bytes=10_900_000), stages[2]])
    assert "nothing shrank" in notes(larger)[0]


def test_a_table_is_aligned() -> None:
    assert text_table(["a", "bb"], [["long", "1"], ["x", "333"]]).splitlines() == [
        "a      bb",
        "----  ---",
        "long    1",
        "x     333",
    ]


def test_numbers_have_three_digits() -> None:
    assert [count(n) for n in (999, 37_170_000, 11_000, 2_500_000_000)] == [
        "999",
        "37.2 M",
        "11.0 k",
        "2.50 G",
    ]
    assert [milliseconds(t) for t in (0.51234, 62.0, 1234.5)] == ["0.512 ms", "62.0 ms", "1,234 ms"]
    assert [smaller(4, 1), smaller(1, 2), smaller(1000, 1001)] == [
        "4.00x smaller",
        "2.00x larger",
        "the same",
    ]
    assert faster(Ratio(4.1, 3.9, 4.3)) == "4.10x faster (3.90 to 4.30)"
    assert faster(Ratio(0.8, 0.7, 0.9)) == "0.800x the speed (0.700 to 0.900)"


def test_a_limit_in_words() -> None:
    check = GateCheck(name="max_accuracy_drop", limit=1.5, value=-0.25, passed=True)
    assert gate_words(check) == ("a loss of at most 1.5 points", "-0.25 points")

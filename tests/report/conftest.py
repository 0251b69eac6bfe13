"""A report to test with, as a run would have made it."""

from collections.abc import Callable

import pytest

from torchcompress.metrics.latency import Ratio
from torchcompress.metrics.measure import Measurement
from torchcompress.report.gate import judge
from torchcompress.report.record import Report, StageRecord, Table

ONE, EIGHT, LARGE = "threads=1,batch=1", "threads=1,batch=8", "threads=1,batch=1,image_size=224"
BEFORE = Measurement(
    accuracy=0.9235,
    file_bytes=44_730_000,
    params=11_181_642,
    macs=37_170_000,
    latency_ms={ONE: 2.1, EIGHT: 11.0, LARGE: 62.0},
)


def stage(
    kind: str, number: int, accuracy: float, size: int, macs: int, speedup: float
) -> StageRecord:
    """Returns a finished stage that is `speedup` times as fast as the first model."""
    return StageRecord(
        kind=kind,
        file=f"{number:02d}-{kind}.tcz",
        seconds=12.5,
        accuracy=accuracy,
        file_bytes=size,
        params=2_700_000,
        macs=macs,
        latency_ms={key: value / speedup for key, value in BEFORE.latency_ms.items()},
        speedup={key: Ratio(speedup, 0.95 * speedup, 1.05 * speedup) for key in BEFORE.latency_ms},
        tables=[
            Table(
                title="channels",
                columns=["layer", "before", "after"],
                rows=[["conv1", 64, 32], ["<fc>", 0.25, None]],
            )
        ],
    )


def make_report(*, max_file_mb: float = 5.6, speedup: float = 4.4) -> Report:
    """Returns the report of a finished run of three stages."""
    stages = [
        stage("prune.channels", 1, 0.3124, 10_900_000, 9_100_000, 1.7),
        stage("distill", 2, 0.9182, 10_900_000, 9_100_000, 1.7),
        stage("quantize.ptq", 3, 0.9178, 2_800_000, 9_100_000, speedup),
    ]
    gate = judge(
        BEFORE,
        stages[-1],
        stages[-1].speedup[ONE],
        max_accuracy_drop=1.5,
        min_speedup=3.5,
        max_file_mb=max_file_mb,
    )
    after = Measurement.from_json({k: getattr(stages[-1], k) for k in BEFORE.to_json()})
    return Report(
        name="quickstart",
        description="ResNet-18 at a quarter of its MACs, distilled, in int8.",
        arch="resnet18",
        dataset="fashion-mnist-mini",
        seed=0,
        environment={"torch": "2.14.1", "processor": "a CPU", "image size": "32 px"},
        before=BEFORE,
        after=after,
        stages=stages,
        gate=gate,
    )


@pytest.fixture
def sample_report() -> Callable[..., Report]:
    """Returns what makes the report of a finished run, with a speed-up and a file limit."""
    return make_report

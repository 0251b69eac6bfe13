"""What a run must reach, and whether it did."""

from torchcompress.metrics.latency import Ratio
from torchcompress.metrics.measure import Measurement
from torchcompress.report.record import Gate, GateCheck

_ROUNDING = 1e-9


def judge(
    before: Measurement,
    after: Measurement,
    speedup: Ratio,
    *,
    max_accuracy_drop: float | None = None,
    min_speedup: float | None = None,
    max_file_mb: float | None = None,
) -> Gate:
    """Holds a result against its limits; None is no limit.

    Args:
        before: The model as it entered, its accuracy included.
        after: The result, its accuracy included.
        speedup: How many times faster the result is. It fails only where the whole interval over
            the rounds lies below the limit.
        max_accuracy_drop: Percentage points.
        min_speedup: Times.
        max_file_mb: MB of 1,000,000 bytes.
    """
    if before.accuracy is None or after.accuracy is None:
        raise ValueError("a gate needs the accuracies of both models")
    drop = 100 * (before.accuracy - after.accuracy)
    file_mb = after.file_bytes / 1e6
    checks = []
    if max_accuracy_drop is not None:
        passed = drop <= max_accuracy_drop + _ROUNDING
        checks.append(_check("max_accuracy_drop", max_accuracy_drop, drop, passed))
    if min_speedup is not None:
        passed = speedup.high >= min_speedup
        checks.append(_check("min_speedup", min_speedup, speedup.value, passed))
    if max_file_mb is not None:
        checks.append(_check("max_file_mb", max_file_mb, file_mb, file_mb <= max_file_mb))
    return Gate(passed=all(check.passed for check in checks), checks=checks)


def _check(name: str, limit: float, value: float, passed: bool) -> GateCheck:
    return GateCheck(name=name, limit=limit, value=value, passed=passed)

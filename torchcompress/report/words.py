"""How numbers are written in every form of the report."""

from torchcompress.metrics.latency import Ratio
from torchcompress.metrics.measure import Measurement
from torchcompress.report.record import GateCheck, Report


def percent(fraction: float | None) -> str:
    """Returns a fraction as percent: `92.35 %`."""
    return "-" if fraction is None else f"{100 * fraction:.2f} %"


def prunes_weights(report: Report) -> bool:
    """Whether a stage has set weights to zero."""
    return any(stage.kind == "prune.weights" for stage in report.stages)


def zeros(model: Measurement) -> str:
    """Returns the share of the weights and biases that are zero: `90.00 %`."""
    return percent(model.zeros / model.params)


def megabytes(size: float) -> str:
    """Returns bytes in MB of 1,000,000 bytes: `4.12 MB`."""
    return f"{size / 1e6:.2f} MB"


def count(number: float) -> str:
    """Returns a count with a unit of thousands: `37.2 M`."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{_three_digits(number / size)} {unit}"
    return f"{number:g}"


def milliseconds(value: float) -> str:
    """Returns a time with three digits: `0.513 ms`."""
    return f"{_three_digits(value)} ms"


def smaller(before: float, after: float) -> str:
    """Returns how many times smaller something is: `10.8x smaller`."""
    factor = _three_digits(max(before / after, after / before))
    if factor == "1.00":
        return "the same"
    return f"{factor}x {'smaller' if before > after else 'larger'}"


def faster(ratio: Ratio) -> str:
    """Returns a speed-up with its interval: `4.10x faster (3.90 to 4.30)`."""
    low, value, high = (_three_digits(r) for r in (ratio.low, ratio.value, ratio.high))
    return f"{value}x {'faster' if ratio.value >= 1 else 'the speed'} ({low} to {high})"


def points(before: float | None, after: float | None) -> str:
    """Returns a change of accuracy in percentage points: `-0.65 points`."""
    return "-" if before is None or after is None else f"{100 * (after - before):+.2f} points"


def setting_words(setting: str) -> str:
    """Returns a latency setting in words: `1 thread, batch 8, 224 px`.

    Args:
        setting: Its key, such as `threads=1,batch=8,image_size=224`.
    """
    values = dict(part.split("=") for part in setting.split(","))
    threads = int(values["threads"])
    words = [f"{threads} thread{'s' if threads > 1 else ''}", f"batch {values['batch']}"]
    if "image_size" in values:
        words.append(f"{values['image_size']} px")
    return ", ".join(words)


_GATES = {
    "max_accuracy_drop": ("a loss of at most {:g} points", "{:.2f} points"),
    "min_speedup": ("a speed-up of at least {:g}x", "{:.3g}x"),
    "max_file_mb": ("at most {:g} MB", "{:.3g} MB"),
}


def gate_words(check: GateCheck) -> tuple[str, str]:
    """Returns what a limit asks and what was reached: `("at most 5 MB", "4.12 MB")`."""
    asked, reached = _GATES[check.name]
    return asked.format(check.limit), reached.format(check.value)


def _three_digits(value: float) -> str:
    return f"{value:#.3g}" if value < 99.95 else f"{value:,.0f}"

"""The times that a plan was made for."""

from dataclasses import dataclass
from typing import Any

from torchcompress.metrics import LatencyTable


@dataclass(frozen=True, kw_only=True)
class PlannedLatency:
    """The time that a plan was made for.

    Attributes:
        table: What the layers took; the plan follows it and never measures again.
        predicted_ms: Milliseconds of the cut model by the table.
        measured_ms: Milliseconds of the model before and after, measured in turns; None where the
            table is not about float models.
    """

    table: LatencyTable
    predicted_ms: float
    measured_ms: tuple[float, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns the times as JSON values."""
        return {
            "table": self.table.to_json(),
            "predicted_ms": self.predicted_ms,
            "measured_ms": None if self.measured_ms is None else list(self.measured_ms),
        }

    def __str__(self) -> str:
        setting = f"{self.table.precision}, threads={self.table.threads}, {self.table.layout}"
        if self.measured_ms is None:
            before, after, how = self.table.model_ms, self.predicted_ms, "by the table"
        else:
            (before, after), how = self.measured_ms, "measured in turns"
        share = 100 * after / before
        return f"latency: {before:.3g} -> {after:.3g} ms ({share:.1f} %), {setting}, {how}"

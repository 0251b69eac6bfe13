"""What became of each layer, as rows and as text."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from torchcompress.core.errors import ArtifactError

_MOST_ROWS = 100_000


@dataclass(frozen=True)
class Row:
    """One layer's call.

    Args:
        name: Module path, numbered from the second call on.
        kind: Such as `conv2d`.
        precision: `int8` or `float`.
        reason: Why it stayed float; empty for int8.
        scale: Step of its uint8 output; None where the output is float32.
        zero_point: The integer that stands for 0 in its output, likewise.
        sqnr_db: Signal over quantization noise at its output, in dB, measured on calibration data;
            None where it was not measured.
    """

    name: str
    kind: str
    precision: str
    reason: str = ""
    scale: float | None = None
    zero_point: int | None = None
    sqnr_db: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns the row as JSON values."""
        return asdict(self)


def parse_rows(data: Any) -> tuple[Row, ...]:
    """Reads rows from JSON values that nobody vouches for.

    Raises:
        ArtifactError: Not rows.
    """
    if not isinstance(data, list) or len(data) > _MOST_ROWS:
        raise ArtifactError("must be a list", where="program.rows")
    return tuple(_parse_row(row, f"program.rows[{n}]") for n, row in enumerate(data))


def _parse_row(data: Any, where: str) -> Row:
    names = [f.name for f in fields(Row)]
    if not isinstance(data, dict) or set(data) != set(names):
        raise ArtifactError(f"needs exactly {', '.join(names)}", where=where)
    texts = all(isinstance(data[name], str) for name in names[:4])
    numbers = all(_is_number(data[name]) for name in names[4:])
    if not texts or not numbers or data["precision"] not in ("int8", "float"):
        raise ArtifactError("is not a row of the table", where=where)
    return Row(**data)


def _is_number(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and math.isfinite(value))


def format_rows(rows: Sequence[Row]) -> str:
    """Returns rows as a text table, with the share of int8 layers first."""
    int8 = sum(row.precision == "int8" for row in rows)
    head = ("layer", "kind", "runs in", "scale", "zero", "SQNR dB", "why")
    cells = [head, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in cells]
    return "\n".join([f"{int8} of {len(rows)} layers in int8", *(line.rstrip() for line in lines)])


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.name,
        row.kind,
        row.precision,
        "" if row.scale is None else f"{row.scale:.4g}",
        "" if row.zero_point is None else str(row.zero_point),
        "" if row.sqnr_db is None else f"{row.sqnr_db:.1f}",
        row.reason,
    )

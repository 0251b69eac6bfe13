"""What became of each layer, as rows and as text."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

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
        macs: Multiply-accumulates for one sample, at the size of the calibration data; None where
            they were not counted.
    """

    name: str
    kind: str
    precision: str
    reason: str = ""
    scale: float | None = None
    zero_point: int | None = None
    sqnr_db: float | None = None
    macs: int | None = None

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
    macs = data["macs"] is None or (type(data["macs"]) is int and data["macs"] >= 0)
    if not texts or not numbers or not macs or data["precision"] not in ("int8", "float"):
        raise ArtifactError("is not a row of the table", where=where)
    return Row(**data)


def parse_split(data: Any) -> dict[str, str]:
    """Reads why modules were split, from JSON values that nobody vouches for.

    Raises:
        ArtifactError: Not texts by path.
    """
    if not isinstance(data, dict) or not all(isinstance(why, str) for why in data.values()):
        raise ArtifactError("must be texts by module path", where="plan.split")
    return dict(data)


def _is_number(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and math.isfinite(value))


class Table(tuple[Row, ...]):
    """A row for each layer; prints as text.

    Args:
        rows: The layers.
        split: Why a module that holds int8 parts is not one program itself, by path.
    """

    split: Mapping[str, str]

    def __new__(cls, rows: Iterable[Row], split: Mapping[str, str] | None = None) -> Self:
        """Makes the table."""
        table = super().__new__(cls, rows)
        table.split = dict(split or {})
        return table

    def int8_share(self) -> float | None:
        """Returns the share of the multiply-accumulates in int8; None where none were counted."""
        total = sum(row.macs or 0 for row in self)
        int8 = sum(row.macs or 0 for row in self if row.precision == "int8")
        return int8 / total if total else None

    def __str__(self) -> str:
        share = self.int8_share()
        title = f"{sum(row.precision == 'int8' for row in self)} of {len(self)} layers in int8"
        if share is not None:
            title += f", {100 * share:.1f} % of the MACs"
        head = ("layer", "kind", "runs in", "MACs", "scale", "zero", "SQNR dB", "why")
        cells = [head, *(_cells(row) for row in self)]
        widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
        lines = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in cells]
        notes = [f"{path or 'the model'} runs by its parts: {w}" for path, w in self.split.items()]
        return "\n".join([title, *(line.rstrip() for line in lines), *notes])


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.name,
        row.kind,
        row.precision,
        "" if row.macs is None else f"{row.macs:,}",
        "" if row.scale is None else f"{row.scale:.4g}",
        "" if row.zero_point is None else str(row.zero_point),
        "" if row.sqnr_db is None else f"{row.sqnr_db:.1f}",
        row.reason,
    )

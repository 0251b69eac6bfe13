"""What each algorithm did to the error, as plain data."""

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from torchcompress.core.errors import ArtifactError

_MOST = 1000


@dataclass(frozen=True)
class Trial:
    """One algorithm and what became of it.

    Args:
        algorithm: Its name.
        before_db: Signal over noise of the outputs without it, on held calibration data;
            None without noise.
        after_db: The same with it.
        kept: Whether it is part of the result.
    """

    algorithm: str
    before_db: float | None
    after_db: float | None
    kept: bool

    def to_json(self) -> dict[str, Any]:
        """Returns the trial as JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        before, after = (
            "no noise" if value is None else f"{value:.2f} dB"
            for value in (self.before_db, self.after_db)
        )
        return f"{self.algorithm}: {before} -> {after}, {'kept' if self.kept else 'undone'}"


def parse_trials(data: Any) -> tuple[Trial, ...]:
    """Reads trials from JSON values that nobody vouches for.

    Raises:
        ArtifactError: Not trials.
    """
    if not isinstance(data, list) or len(data) > _MOST:
        raise ArtifactError("must be a list", where="plan.trials")
    return tuple(_parse(item, f"plan.trials[{n}]") for n, item in enumerate(data))


def _parse(data: Any, where: str) -> Trial:
    if not isinstance(data, dict) or set(data) != {f.name for f in fields(Trial)}:
        raise ArtifactError("has other fields", where=where)
    numbers = all(_is_decibels(data[name]) for name in ("before_db", "after_db"))
    if not numbers or type(data["algorithm"]) is not str or type(data["kept"]) is not bool:
        raise ArtifactError("is not a trial", where=where)
    return Trial(**data)


def _is_decibels(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and math.isfinite(value))

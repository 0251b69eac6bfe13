"""What a compression has to reach."""

from dataclasses import dataclass, fields

from torchcompress.core.errors import CompressError
from torchcompress.core.numbers import is_finite, shown


@dataclass(frozen=True, kw_only=True)
class Target:
    """How much of a model remains; exactly one field is given.

    A number up to 1 is the fraction kept, a number above 1 an absolute count. `sparsity` alone
    says what goes. The field is `quantity`, the number `value`.

    Args:
        channels: Fraction kept of the channels of each layer.
        macs: Multiply-accumulates of one forward pass on the example input.
        params: Parameters.
        latency: Fraction of the measured time.
        latency_ms: Time in milliseconds.
        sparsity: Fraction of the weights that become zero, in (0, 1).

    Raises:
        CompressError: None or several fields, or a number out of range.
    """

    channels: float | None = None
    macs: float | None = None
    params: float | None = None
    latency: float | None = None
    latency_ms: float | None = None
    sparsity: float | None = None

    def __post_init__(self) -> None:
        names = [f.name for f in fields(self)]
        given = [n for n in names if getattr(self, n) is not None]
        if len(given) != 1:
            raise CompressError(
                f"a target takes exactly one quantity, got {', '.join(given) or 'none'}",
                where="target",
                hint=f"give one of {', '.join(names)}",
            )
        _check(given[0], getattr(self, given[0]))

    @property
    def quantity(self) -> str:
        """The name of the field that was given."""
        return next(f.name for f in fields(self) if getattr(self, f.name) is not None)

    @property
    def value(self) -> float:
        """The number that was given."""
        return getattr(self, self.quantity)

    def absolute(self, whole: float) -> float:
        """Returns what remains of `whole`, as a count or a time.

        Args:
            whole: The quantity of the model before; for `latency_ms` in milliseconds.

        Raises:
            CompressError: An absolute target above what the model has.
        """
        if self.value <= 1 and self.quantity != "latency_ms":
            return self.value * whole
        if self.value > whole:
            fraction = self.quantity.removesuffix("_ms")
            raise CompressError(
                f"{self.value:,.10g} {self.quantity} are more than the model has ({whole:,.10g})",
                where=f"target.{self.quantity}",
                hint=f"give a smaller number, or a fraction such as {fraction}=0.5",
            )
        return self.value

    def partway(self, fraction: float, whole: float) -> "Target":
        """Returns what remains after a fraction of the way from a model to this target.

        Args:
            fraction: How far to be, above 0; at 1 it is the target itself.
            whole: The quantity of the model before.
        """
        if fraction == 1:
            return self
        if self.quantity == "sparsity":
            return Target(sparsity=fraction * self.value)
        kept = self.absolute(whole) / whole
        return Target(**{self.quantity: 1 - fraction * (1 - kept)})

    def __str__(self) -> str:
        return f"{self.quantity}={self.value:g}"


def _check(name: str, value: object) -> None:
    where = f"target.{name}"
    if not is_finite(value):
        raise CompressError(f"{shown(value)} is not a number", where=where)
    if value <= 0:
        raise CompressError(
            f"{value:g} leaves nothing", where=where, hint="a target says what remains, above 0"
        )
    if name == "sparsity" and value >= 1:
        raise CompressError(
            f"{value:g} is outside (0, 1)",
            where=where,
            hint=_percent(value, "the fraction of zeros"),
        )
    if name in ("channels", "latency") and value > 1:
        raise CompressError(
            f"{value:g} is above 1", where=where, hint=_percent(value, "the fraction that remains")
        )
    if name in ("macs", "params") and 1 < value <= 100:
        raise CompressError(
            f"{value:g} would be a count of {value:g} {name}",
            where=where,
            hint=_percent(value, "a fraction"),
        )


def _percent(value: float, what: str) -> str:
    if 1 < value <= 100:
        return f"did you mean {value / 100:g}? It is {what}"
    return f"it is {what}"

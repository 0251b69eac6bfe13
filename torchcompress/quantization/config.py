"""How a model is quantized."""

from dataclasses import dataclass
from typing import Literal, Self, get_args

from torchcompress.core.errors import CompressError, did_you_mean

RangeMethod = Literal["mse", "minmax"]


@dataclass(frozen=True, kw_only=True)
class QuantizationConfig:
    """How a model is quantized.

    Args:
        ranges: How an activation's range is chosen: `mse` clips outliers where that lowers the
            squared rounding error over a histogram (a second pass over the calibration data);
            `minmax` covers all that was seen, in one pass.
        exclude: Globs over layer names that stay float.

    Raises:
        CompressError: An unknown method.
    """

    ranges: RangeMethod = "mse"
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.ranges not in get_args(RangeMethod):
            raise CompressError(
                f"{self.ranges!r} is not a way to choose ranges",
                where="config.ranges",
                hint=did_you_mean(str(self.ranges), get_args(RangeMethod)),
            )

    @classmethod
    def preset(cls, name: str) -> Self:
        """Returns a configuration by name: `default`, or `fast` (one calibration pass).

        Raises:
            CompressError: An unknown name.
        """
        presets = {"default": cls(), "fast": cls(ranges="minmax")}
        if not isinstance(name, str) or name not in presets:
            raise CompressError(
                f"{name!r} is not a preset", where="config", hint=did_you_mean(str(name), presets)
            )
        return presets[name]

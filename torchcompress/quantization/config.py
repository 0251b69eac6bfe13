"""How a model is quantized."""

from dataclasses import dataclass
from typing import Literal, Self, get_args

from torchcompress.core.errors import CompressError, did_you_mean

RangeMethod = Literal["mse", "minmax"]
Placement = Literal["measured", "all"]


@dataclass(frozen=True, kw_only=True)
class QuantizationConfig:
    """How a model is quantized.

    Args:
        ranges: How an activation's range is chosen: `mse` clips outliers where that lowers the
            squared rounding error over a histogram (a second pass over the calibration data);
            `minmax` covers all that was seen, in one pass.
        exclude: Globs over layer names that stay float.
        placement: `measured` times each distinct layer once, here, and lets those compute in
            float32 on int8 weights that are slower on integers; `all` lets every layer that can
            compute on integers, and measures nothing.
        symmetric: Every activation gets zero point 128, which an int8 activation of zero point 0
            equals; for runtimes that know no other, such as TensorRT. Costs a bit after a ReLU.

    Raises:
        CompressError: An unknown method or placement.
    """

    ranges: RangeMethod = "mse"
    exclude: tuple[str, ...] = ()
    placement: Placement = "measured"
    symmetric: bool = False

    def __post_init__(self) -> None:
        _check_choice(self.ranges, get_args(RangeMethod), "config.ranges", "way to choose ranges")
        _check_choice(self.placement, get_args(Placement), "config.placement", "placement")

    @classmethod
    def preset(cls, name: str) -> Self:
        """Returns a configuration by name: `default`, or `fast`, which measures nothing.

        Raises:
            CompressError: An unknown name.
        """
        presets = {"default": cls(), "fast": cls(ranges="minmax", placement="all")}
        if not isinstance(name, str) or name not in presets:
            raise CompressError(
                f"{name!r} is not a preset", where="config", hint=did_you_mean(str(name), presets)
            )
        return presets[name]


def _check_choice(value: object, allowed: tuple[str, ...], where: str, what: str) -> None:
    if value not in allowed:
        hint = did_you_mean(str(value), allowed)
        raise CompressError(f"{value!r} is not a {what}", where=where, hint=hint)

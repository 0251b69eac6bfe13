"""How a model is quantized."""

from dataclasses import dataclass
from typing import Literal, Self, get_args

from torchcompress.core.errors import CompressError, did_you_mean

RangeMethod = Literal["mse", "minmax"]
Placement = Literal["measured", "all"]
Rounding = Literal["nearest", "gptq", "adaround"]


@dataclass(frozen=True, kw_only=True)
class QuantizationConfig:
    """How a model is quantized.

    Args:
        ranges: How an activation's range is chosen: `mse` clips outliers where that lowers the
            squared rounding error over a histogram (a second pass over the calibration data);
            `minmax` covers all that was seen, in one pass.
        equalization: Cross-layer equalization (Nagel et al. 2019) of layers without a norm or
            with ReLU between them.
        smoothing: SmoothQuant (Xiao et al. 2023) of layer norms and the layers that read them.
        bias_correction: The mean error of each channel goes into the bias (Nagel et al. 2019).
        rounding: Of weights: `nearest`, `gptq` (Frantar et al. 2023) or `adaround` (Nagel et al.
            2020; slow).
        weight_steps: Let the largest weights saturate where that lowers a layer's output error.
        exclude: Globs over layer names that stay float.
        placement: `measured` times each distinct layer once, here, and lets those compute in
            float32 on int8 weights that are slower on integers; `all` lets every layer that can
            compute on integers, and measures nothing.
        symmetric: Every activation gets zero point 128, which an int8 activation of zero point 0
            equals; for runtimes that know no other, such as TensorRT. Costs a bit after a ReLU.
        seed: Of the inputs that rounding is learnt from.

    An algorithm is kept only if it lowers the error of the outputs on a quarter of the calibration
    batches, which it has not seen.

    Raises:
        CompressError: An unknown method or placement.
    """

    ranges: RangeMethod = "mse"
    equalization: bool = True
    smoothing: bool = True
    bias_correction: bool = True
    rounding: Rounding = "gptq"
    weight_steps: bool = False
    exclude: tuple[str, ...] = ()
    placement: Placement = "measured"
    symmetric: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        _check_choice(self.ranges, get_args(RangeMethod), "config.ranges", "way to choose ranges")
        _check_choice(self.rounding, get_args(Rounding), "config.rounding", "way to round")
        _check_choice(self.placement, get_args(Placement), "config.placement", "placement")

    @property
    def learns(self) -> bool:
        """Whether any algorithm follows calibration."""
        switches = (self.equalization, self.smoothing, self.bias_correction, self.weight_steps)
        return self.ranges == "mse" or any(switches) or self.rounding != "nearest"

    @classmethod
    def preset(cls, name: str) -> Self:
        """Returns a configuration by name: `default`, or `fast`, which measures nothing.

        Raises:
            CompressError: An unknown name.
        """
        fast = cls(
            ranges="minmax",
            equalization=False,
            smoothing=False,
            bias_correction=False,
            rounding="nearest",
            placement="all",
        )
        presets = {"default": cls(), "fast": fast}
        if not isinstance(name, str) or name not in presets:
            raise CompressError(
                f"{name!r} is not a preset", where="config", hint=did_you_mean(str(name), presets)
            )
        return presets[name]


def _check_choice(value: object, allowed: tuple[str, ...], where: str, what: str) -> None:
    if value not in allowed:
        hint = did_you_mean(str(value), allowed)
        raise CompressError(f"{value!r} is not a {what}", where=where, hint=hint)

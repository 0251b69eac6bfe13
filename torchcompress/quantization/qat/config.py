"""How a model is prepared for quantization-aware training."""

from dataclasses import dataclass

from torchcompress.quantization.config import Placement, QuantizationConfig, RangeMethod
from torchcompress.training.config import check_number


@dataclass(frozen=True, kw_only=True)
class QATConfig:
    """How a model is prepared for quantization-aware training.

    Args:
        ranges: How the ranges of activations are first chosen. `mse` clips outliers, and the share
            that it keeps is kept while ranges follow the training; `minmax` clips nothing.
        averaging: How far a range moves towards that of a training batch, above 0 and up to 1.
        learned: Learn the step of each activation and of each output channel's weights by gradient
            (LSQ; Esser et al., 2020) in place of following the batches.
        exclude: Globs over layer names that stay float.
        placement: As in `QuantizationConfig`. What is measured is this machine's CPU.

    Raises:
        CompressError: An unknown method, or a number out of range.
    """

    ranges: RangeMethod = "mse"
    averaging: float = 0.01
    learned: bool = False
    exclude: tuple[str, ...] = ()
    placement: Placement = "measured"

    def __post_init__(self) -> None:
        check_number("config.averaging", self.averaging, above=0, below=1 + 1e-9)
        self.quantization()

    def quantization(self) -> QuantizationConfig:
        """Returns how the model that training starts from is quantized."""
        return QuantizationConfig(
            ranges=self.ranges, exclude=self.exclude, placement=self.placement
        )

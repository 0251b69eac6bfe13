"""From a float model and a few hundred inputs to an int8 model."""

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from torchcompress.core.errors import CompressError
from torchcompress.core.inputs import Forward, Inputs, call
from torchcompress.core.modules import device_of
from torchcompress.quantization.accuracy_control import hold_score
from torchcompress.quantization.calibrate import Batches
from torchcompress.quantization.check_model import check_model
from torchcompress.quantization.config import QuantizationConfig
from torchcompress.quantization.drafted import draft_parts, nothing_to_quantize, planned
from torchcompress.quantization.model import Int8Model
from torchcompress.quantization.partly import PartlyInt8Model
from torchcompress.quantization.parts import find_parts
from torchcompress.quantization.plan import QuantizationPlan


def quantize(
    model: nn.Module,
    calibration: Iterable[Any],
    config: QuantizationConfig | str | None = None,
    *,
    forward: Forward | None = None,
    max_drop: float | None = None,
    evaluate: Callable[[nn.Module], float] | None = None,
) -> Int8Model | PartlyInt8Model:
    """Returns an int8 copy of a model; the model itself is left as it was.

    Weights are int8 by output channel, activations uint8 by tensor, ranges chosen on the
    calibration data for each call, norms folded in float64. A model that cannot be read as one
    program, such as a detector, is quantized by its largest readable parts; `table()` says what
    stays float, and why.

    Args:
        model: A float32 model; it is quantized in eval mode, whatever mode it is in.
        calibration: Batches of a few hundred samples; labels are ignored.
        config: A configuration or the name of a preset; `default` where None.
        forward: How the model is called on a batch, where the default reading does not fit.
        max_drop: How far the score may fall below the float model's, in its own units. Where it
            falls further, the most sensitive layers go back to float, as few as needed.
        evaluate: Returns the score of a model, the higher the better; goes with `max_drop`.

    Raises:
        UnsupportedError: Nothing to quantize, weights that are not float32 or not finite, or an
            int8 model.
        CalibrationError: No data, data that the model cannot run on or that is not finite, an
            activation that is not, or a layer that calibration never ran.
        CompressError: No such preset, a glob in `config.exclude` that matches nothing, or a score
            that falls too far with any layer in int8.
    """
    if not isinstance(config, QuantizationConfig):
        config = QuantizationConfig.preset("default" if config is None else config)
    if (max_drop is None) != (evaluate is None):
        raise CompressError(
            "max_drop and evaluate go together",
            where="max_drop",
            hint="evaluate(model) returns the score that may fall by max_drop",
        )
    if max_drop is None or evaluate is None:
        return plan_quantization(model, calibration, config, forward=forward).apply(model)
    drafted = draft_parts(model, calibration, config, forward=forward)
    return hold_score(model, drafted, evaluate, max_drop).apply(model)


def plan_quantization(
    model: nn.Module,
    calibration: Iterable[Any],
    config: QuantizationConfig,
    *,
    forward: Forward | None = None,
) -> QuantizationPlan:
    """Reads and calibrates a model and says what each layer becomes.

    Args and errors are those of `quantize`.
    """
    return planned(draft_parts(model, calibration, config, forward=forward))


def check_quantizable(model: nn.Module, x: Inputs) -> None:
    """Checks that something in a model can be quantized, without calibration.

    Args:
        model: A float32 model, left as it was.
        x: Example inputs.

    Raises:
        UnsupportedError: Nothing can be, or what `quantize` refuses.
        CalibrationError: The model does not take `x`, or what it computes is not finite.
    """
    name, model = type(model).__name__, check_model(model)
    batches = Batches([x], call, device_of(model))
    found = find_parts(model, batches, exclude=("*",))
    if not found.parts:
        raise nothing_to_quantize(found, name)

"""From a float model and a few hundred inputs to an int8 model."""

from collections.abc import Iterable
from typing import Any

from torch import nn

from torchcompress.core.errors import UnsupportedError
from torchcompress.core.inputs import Forward
from torchcompress.core.modules import device_of
from torchcompress.quantization.calibrate import Batches, first_outputs
from torchcompress.quantization.config import QuantizationConfig
from torchcompress.quantization.model import Int8Model
from torchcompress.quantization.plan import QuantizationPlan, check_weights
from torchcompress.quantization.quantize_part import draft_part, finish
from torchcompress.quantization.trace import trace


def quantize(
    model: nn.Module,
    calibration: Iterable[Any],
    config: QuantizationConfig | str | None = None,
    *,
    forward: Forward | None = None,
) -> Int8Model:
    """Returns an int8 copy of a model; the model itself is left as it was.

    Weights are int8 by output channel, activations uint8 by tensor, ranges chosen on the
    calibration data for each call, norms folded in float64.

    Args:
        model: A float32 model that `torch.fx` can trace; it is quantized in eval mode.
        calibration: Batches of a few hundred samples; labels are ignored.
        config: A configuration or the name of a preset; `default` where None.
        forward: How the model is called on a batch, where the default reading does not fit.

    Raises:
        TraceError: The forward pass cannot be followed.
        UnsupportedError: An operation outside the list (named with its module), nothing to
            quantize, weights that are not float32 or not finite, or an int8 model.
        CalibrationError: No data, data that the model cannot run on or that is not finite, an
            activation that is not, or a layer that calibration never ran.
        CompressError: No such preset.
    """
    if not isinstance(config, QuantizationConfig):
        config = QuantizationConfig.preset("default" if config is None else config)
    return plan_quantization(model, calibration, config, forward=forward).apply(model)


def plan_quantization(
    model: nn.Module,
    calibration: Iterable[Any],
    config: QuantizationConfig,
    *,
    forward: Forward | None = None,
) -> QuantizationPlan:
    """Traces and calibrates a model and says what each layer becomes.

    Args and errors are those of `quantize`.
    """
    if isinstance(model, Int8Model):
        raise UnsupportedError("the model is int8 already", where=type(model).__name__)
    traced, sources = trace(model)
    check_weights(sources, model.state_dict())
    batches = Batches(calibration, forward, device_of(model))
    want = first_outputs(model, batches)
    name = type(model).__name__
    draft = draft_part(traced, sources, model.state_dict(), batches, want, config, name)
    return finish(draft, batches)

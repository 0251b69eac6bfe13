"""From a float model and a few hundred inputs to an int8 model."""

from collections.abc import Iterable
from typing import Any

from torch import nn

from torchcompress.core.errors import UnsupportedError
from torchcompress.core.inputs import Forward, Inputs, call
from torchcompress.core.modules import device_of, match_names
from torchcompress.quantization.calibrate import Batches, first_outputs
from torchcompress.quantization.check_model import check_model
from torchcompress.quantization.config import QuantizationConfig
from torchcompress.quantization.left import left_modules, left_rows
from torchcompress.quantization.model import Int8Model
from torchcompress.quantization.operations import LAYERS
from torchcompress.quantization.partly import PartlyInt8Model
from torchcompress.quantization.parts import Partition, find_parts
from torchcompress.quantization.plan import QuantizationPlan
from torchcompress.quantization.plan_part import PlanPart, check_weights
from torchcompress.quantization.ptq.improve import improve
from torchcompress.quantization.quantize_part import draft_part, finish
from torchcompress.quantization.table import Row


def quantize(
    model: nn.Module,
    calibration: Iterable[Any],
    config: QuantizationConfig | str | None = None,
    *,
    forward: Forward | None = None,
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

    Raises:
        UnsupportedError: Nothing to quantize, weights that are not float32 or not finite, or an
            int8 model.
        CalibrationError: No data, data that the model cannot run on or that is not finite, an
            activation that is not, or a layer that calibration never ran.
        CompressError: No such preset, or a glob in `config.exclude` that matches nothing.
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
    """Reads and calibrates a model and says what each layer becomes.

    Args and errors are those of `quantize`.
    """
    name = type(model).__name__
    model = check_model(model)
    found = find_parts(model, Batches(calibration, forward, device_of(model)), config.exclude)
    check_globs(found, config)
    state = model.state_dict()
    parts: dict[str, PlanPart] = {}
    left: list[Row] = []
    for path, part in found.parts.items():
        check_weights(part.sources, state)
        want = first_outputs(found.model.get_submodule(path), part.batches)
        draft = draft_part(
            part.program, part.sources, state, part.batches, want, config, path or name
        )
        draft, trials = improve(draft, part.batches, config)
        made = finish(draft, part.batches, trials)
        if any(row.precision == "int8" for row in made.rows):
            parts[path] = made
        else:
            left += made.rows
        part.batches.release()
    if not parts:
        raise nothing_to_quantize(found, name)
    left += left_rows(found, found.parts, config.exclude)
    return QuantizationPlan(parts, tuple(left), found.split)


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


def nothing_to_quantize(found: Partition, where: str) -> UnsupportedError:
    """Returns the error of a model none of whose layers can become int8.

    Args:
        found: Its parts.
        where: The model.
    """
    why = f": {found.split['']}" if "" in found.split else ""
    return UnsupportedError(
        f"nothing in this model can be quantized{why}",
        where=where,
        hint="it needs a convolution or a linear layer that config.exclude does not match",
    )


def check_globs(found: Partition, config: QuantizationConfig) -> None:
    """Checks that each glob matches a layer of a part or a module around the parts.

    Raises:
        CompressError: It matches nothing.
    """
    layers = [
        op.name.split("#")[0]
        for part in found.parts.values()
        for op in part.program.ops
        if op.kind in LAYERS
    ]
    around = left_modules(found.model, found.parts)
    match_names(config.exclude, [*layers, *around], "config.exclude")

"""From a float model and a few hundred inputs to an int8 model."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from torchcompress.core.errors import UnsupportedError
from torchcompress.core.inputs import Forward
from torchcompress.core.modules import device_of, match_names
from torchcompress.quantization import interpreter
from torchcompress.quantization.calibrate import (
    Batches,
    ProgramModule,
    check_trace,
    first_inputs,
    first_outputs,
    observe_ranges,
)
from torchcompress.quantization.config import QuantizationConfig
from torchcompress.quantization.fuse import fuse
from torchcompress.quantization.int8 import kernels, reference
from torchcompress.quantization.int8.selftest import native_works
from torchcompress.quantization.lower import int8_ops, lower, uint8_classes
from torchcompress.quantization.model import Int8Model
from torchcompress.quantization.operations import LAYERS
from torchcompress.quantization.plan import QuantizationPlan, check_weights
from torchcompress.quantization.program import Op, Program, QParams
from torchcompress.quantization.ranges import range_classes, warn_uneven_branches
from torchcompress.quantization.sources import folded_tensors
from torchcompress.quantization.sqnr import measure_sqnr
from torchcompress.quantization.table import Row
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
    excluded = _excluded(traced, config)
    batches = Batches(calibration, forward, device_of(model))
    plain = ProgramModule(traced, folded_tensors(sources, model.state_dict()))
    want = first_outputs(model, batches)
    shapes = check_trace(plain, want, batches, type(model).__name__)

    fused, sources = fuse(traced, sources, shapes, excluded)
    int8 = int8_ops(fused, shapes, excluded)
    if not any(op.output in int8 and op.layer is not None for op in fused.ops):
        raise UnsupportedError(
            "nothing in this model can be quantized",
            where=type(model).__name__,
            hint="it needs a convolution or a linear layer that config.exclude does not match",
        )
    classes = range_classes(fused)
    module = ProgramModule(fused, folded_tensors(sources, model.state_dict()))
    check_trace(module, want, batches, type(model).__name__)
    observers, extents = observe_ranges(module, batches, classes, config.ranges == "mse")
    stored = uint8_classes(fused, classes, int8)
    by_class = {name: observers[name].grid() for name in stored}
    grids = {value: by_class[name] for value, name in classes.items() if name in stored}
    warn_uneven_branches(fused, extents, grids)

    program, made = lower(fused, int8, grids)
    draft = QuantizationPlan(program, sources, ())
    noise = _noise(draft.apply(model), module, batches, made)
    rows = tuple(_row(op, int8, excluded, grids, noise) for op in fused.ops if op.kind in LAYERS)
    return QuantizationPlan(program, sources, rows)


def _excluded(program: Program, config: QuantizationConfig) -> set[str]:
    """Returns the names of the calls that stay float; a layer's calls stay so together."""
    layers = [op.name for op in program.ops if op.kind in LAYERS]
    paths = dict.fromkeys(name.split("#")[0] for name in layers)
    matched = set(match_names(config.exclude, paths, "config.exclude"))
    return {name for name in layers if name.split("#")[0] in matched}


def _noise(
    model: Int8Model, module: ProgramModule, batches: Batches, made: Mapping[str, str]
) -> dict[str, float | None]:
    """Returns the SQNR in dB of each layer's output, by value of the float program."""
    inputs = first_inputs(module, batches)
    native = inputs[0].device.type == "cpu" and native_works()
    steps = interpreter.steps(module.program, module.tensors, inputs, types=module.types)
    found = measure_sqnr(
        (
            (made[value], signal)
            for op, value, signal in steps
            if op is not None and op.kind in LAYERS
        ),
        model.program,
        model.tensors,
        inputs,
        kernels.bind if native else reference.bind,
    )
    return {op.output: found[made[op.output]] for op in module.program.ops if op.kind in LAYERS}


def _row(
    op: Op,
    int8: set[str],
    excluded: set[str],
    grids: Mapping[str, QParams],
    noise: Mapping[str, float | None],
) -> Row:
    quantized = op.output in int8
    grid = grids.get(op.output) if quantized else None
    return Row(
        name=op.name,
        kind=op.kind,
        precision="int8" if quantized else "float",
        reason="" if quantized else _reason(op, excluded),
        scale=None if grid is None else grid.scale,
        zero_point=None if grid is None else grid.zero_point,
        sqnr_db=noise[op.output],
    )


def _reason(op: Op, excluded: set[str]) -> str:
    if op.name in excluded:
        return "excluded by the configuration"
    if op.kind == "conv_transpose2d":
        return "no int8 kernel for a transposed convolution"
    return "a batch norm on vectors, with no layer before it"

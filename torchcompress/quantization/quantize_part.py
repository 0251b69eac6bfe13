"""From one traced program to its int8 form: a draft that algorithms may change, then a plan."""

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from torch import Tensor

from torchcompress.quantization import interpreter
from torchcompress.quantization.adjustments import Adjustment, adjusted, adjusted_value
from torchcompress.quantization.calibrate import (
    Batches,
    ProgramModule,
    check_trace,
    first_inputs,
)
from torchcompress.quantization.config import QuantizationConfig
from torchcompress.quantization.fuse import fuse
from torchcompress.quantization.inner_grids import with_inner_grids
from torchcompress.quantization.int8 import kernels, reference
from torchcompress.quantization.int8.selftest import native_works
from torchcompress.quantization.learned import LearnedWeight
from torchcompress.quantization.lower import int8_ops, lower, uint8_classes
from torchcompress.quantization.macs import op_macs
from torchcompress.quantization.model import Int8Model
from torchcompress.quantization.observed_ranges import Extents, observe_grids
from torchcompress.quantization.operations import LAYERS
from torchcompress.quantization.placement import slower_layers
from torchcompress.quantization.plan_part import PlanPart, int8_tensors
from torchcompress.quantization.program import Op, Program, QParams
from torchcompress.quantization.ranges import range_classes, warn_uneven_branches
from torchcompress.quantization.sources import AnySource, Constant, folded_tensors
from torchcompress.quantization.sqnr import measure_sqnr
from torchcompress.quantization.table import Row
from torchcompress.quantization.trials import Trial


@dataclass(frozen=True)
class Draft:
    """A program on its way to int8, with all that algorithms and placement may still change.

    Args:
        program: The fused float program.
        sources: Of its layers.
        state: The state_dict that the sources name.
        int8: Outputs of the operations that compute on integers.
        grids: By value; at least those that `int8` makes uint8.
        reasons: Why an operation stays float, by output.
        extents: Smallest and largest value seen, by value.
        adjustments: What algorithms changed about a layer's tensors, by layer.
        integers: Learned int8 weights, by layer.
        slower: Why a layer computes in float32 on int8 weights, by output.
        symmetric: Every grid has zero point 128.
    """

    program: Program
    sources: dict[str, AnySource]
    state: Mapping[str, Tensor] = field(repr=False)
    int8: frozenset[str]
    grids: dict[str, QParams]
    reasons: dict[str, str]
    extents: Extents
    adjustments: dict[str, Adjustment] = field(default_factory=dict)
    integers: dict[str, Tensor] = field(default_factory=dict, repr=False)
    slower: dict[str, str] = field(default_factory=dict)
    symmetric: bool = False

    @property
    def stored(self) -> dict[str, QParams]:
        """The grids of the values that are stored as uint8."""
        classes = range_classes(self.program)
        stored = uint8_classes(self.program, classes, self.int8)
        return {value: grid for value, grid in self.grids.items() if classes[value] in stored}

    def kept_float(self, reasons: Mapping[str, str]) -> Self:
        """Returns the draft with more operations left in float.

        Args:
            reasons: Why, by output; all calls of a layer together.
        """
        layers = {op.layer for op in self.program.ops if op.output in reasons}
        return replace(
            self,
            int8=self.int8 - reasons.keys(),
            adjustments={
                # What made up for rounding goes with it.
                key: replace(value, shift=None, steps=None) if key in layers else value
                for key, value in self.adjustments.items()
            },
            integers={key: value for key, value in self.integers.items() if key not in layers},
            reasons={**self.reasons, **reasons},
            slower={value: why for value, why in self.slower.items() if value not in reasons},
        )

    def float_module(self) -> ProgramModule:
        """Returns the float program as a module."""
        tensors: dict[str, Tensor] = {}
        for key, source in self.sources.items():
            if isinstance(source, Constant):
                value = adjusted_value(source, self.adjustments.get(key), self.state)
                tensors[f"{key}.value"] = value
                continue
            adjustment = self.adjustments.get(key, Adjustment())
            weight, bias = adjusted(source, adjustment, self.state)
            tensors[f"{key}.weight"], tensors[f"{key}.bias"] = weight.float(), bias.float()
        return ProgramModule(self.program, tensors)

    def int8_model(self, rows: tuple[Row, ...] = ()) -> tuple[Int8Model, dict[str, str]]:
        """Returns the int8 model, and its value for each output of the float program."""
        program, made = lower(self.program, self.int8, self.stored, self.slower)
        tensors = int8_tensors(program, self.sources, self.adjustments, self.integers, self.state)
        return Int8Model(program, tensors, rows), made


def draft_part(
    traced: Program,
    sources: dict[str, AnySource],
    state: Mapping[str, Tensor],
    batches: Batches,
    want: Mapping[str, Tensor],
    config: QuantizationConfig,
    where: str,
) -> Draft:
    """Fuses and calibrates a traced program and drafts its int8 form.

    Args:
        traced: The program as traced.
        sources: Of its layers.
        state: The state_dict that the sources name.
        batches: Calibration data; `batches.call` runs whatever contains the program.
        want: What that makes of the first batch, by path.
        config: How to quantize.
        where: What the program is of, for messages.

    Raises:
        TraceError: The program does not compute what the model computes.
        CalibrationError: Data that does not fit or is not finite, or that never ran a layer.
    """
    excluded = excluded_layers(traced, config)
    shapes = check_trace(
        ProgramModule(traced, folded_tensors(sources, state)), want, batches, where
    )
    fused, sources = fuse(traced, sources, shapes, excluded)
    int8 = int8_ops(fused, shapes, excluded)
    classes = range_classes(fused)
    module = ProgramModule(fused, folded_tensors(sources, state))
    check_trace(module, want, batches, where)
    stored = uint8_classes(fused, classes, int8)
    grids, extents = observe_grids(
        module,
        batches,
        classes,
        stored,
        histogram=config.ranges == "mse",
        zero_centered=config.symmetric,
    )
    warn_uneven_branches(fused, extents, grids)
    once = fused.without_inputs()
    reasons = {
        op.output: _COMPUTED_ONCE if op.output in once else _reason(op, excluded)
        for op in fused.ops
        if op.kind in LAYERS and op.output not in int8
    }
    slower: dict[str, str] = {}
    if config.placement == "measured" and native_works():
        weights = {key: source.shape for key, source in sources.items()}
        slower = slower_layers(fused, int8, grids, weights, shapes)
    int8 -= slower.keys()
    return Draft(
        fused,
        sources,
        state,
        frozenset(int8),
        grids,
        reasons,
        extents,
        slower=slower,
        symmetric=config.symmetric,
    )


def finish(draft: Draft, batches: Batches, trials: tuple[Trial, ...] = ()) -> PlanPart:
    """Lowers a draft and measures noise, cost and inner grids at each layer on the first batch."""
    model, made = draft.int8_model()
    module = draft.float_module()
    inputs = first_inputs(module, batches)
    native = inputs[0].device.type == "cpu" and native_works()
    bind = kernels.bind if native else reference.bind
    noise = _noise(model, module, inputs, made, bind)
    part = plan_part(draft, noise, op_macs(module, batches))
    program = with_inner_grids(part.program, model.tensors, inputs, bind)
    return replace(part, program=program, trials=trials)


def plan_part(draft: Draft, noise: Mapping[str, float | None], macs: Mapping[str, int]) -> PlanPart:
    """Lowers a draft.

    Args:
        draft: What is to become of the program.
        noise: SQNR in dB of each layer's output, by value, where it was measured.
        macs: Multiply-accumulates of each operation for one sample, by output.
    """
    model, _ = draft.int8_model()
    stored = draft.stored
    rows = tuple(
        _row(op, draft, stored, noise, macs.get(op.output, 0))
        for op in draft.program.ops
        if op.kind in LAYERS or op.output in macs
    )
    nearest: dict[str, Tensor] = {}
    if draft.integers:
        nearest = int8_tensors(model.program, draft.sources, draft.adjustments, {}, draft.state)
    integers = {
        layer: LearnedWeight.of(layer, weight, nearest) for layer, weight in draft.integers.items()
    }
    return PlanPart(
        model.program,
        draft.sources,
        rows,
        draft.adjustments,
        learned=tuple(integers),
        integers=integers,
    )


_PRODUCT = "a product of two activations"


def excluded_layers(program: Program, config: QuantizationConfig) -> set[str]:
    """Returns the names of the calls that stay float; a layer's calls stay so together."""
    layers = [op.name for op in program.ops if op.kind in LAYERS]
    return {
        name
        for name in layers
        if any(fnmatch.fnmatchcase(name.split("#")[0], glob) for glob in config.exclude)
    }


def _noise(
    model: Int8Model,
    module: ProgramModule,
    inputs: Sequence[Tensor],
    made: Mapping[str, str],
    bind: interpreter.Bind,
) -> dict[str, float | None]:
    """Returns the SQNR in dB of each layer's output, by value of the float program."""
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
        bind,
    )
    return {op.output: found[made[op.output]] for op in module.program.ops if op.kind in LAYERS}


def _row(
    op: Op,
    draft: Draft,
    stored: Mapping[str, QParams],
    noise: Mapping[str, float | None],
    macs: int,
) -> Row:
    quantized = op.output in draft.int8
    grid = stored.get(op.output) if quantized else None
    return Row(
        name=op.name,
        kind=op.kind,
        precision="int8" if quantized else "float",
        reason="" if quantized else {**draft.reasons, **draft.slower}.get(op.output, _PRODUCT),
        scale=None if grid is None else grid.scale,
        zero_point=None if grid is None else grid.zero_point,
        sqnr_db=noise.get(op.output),
        macs=macs,
    )


_COMPUTED_ONCE = "made of parameters alone: computed once"


def _reason(op: Op, excluded: set[str]) -> str:
    if op.name in excluded:
        return "excluded by the configuration"
    if op.kind.startswith("conv_transpose"):
        return "no int8 kernel for a transposed convolution"
    if op.kind == "affine":
        return "a batch norm on vectors, with no layer before it"
    return f"no int8 kernel for {op.kind}"

"""The fake-quantized forms of a model: what runs in eval mode, and what in train mode."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from torchcompress.core.errors import UnsupportedError
from torchcompress.quantization.fuse import fuse
from torchcompress.quantization.lower import lower
from torchcompress.quantization.program import Op, Program, QParams, Shapes
from torchcompress.quantization.quantize_part import Draft
from torchcompress.quantization.sources import AnySource
from torchcompress.quantization.value_types import SHARING


@dataclass(frozen=True)
class Form:
    """A program whose uint8 values are fake-quantized float32.

    Args:
        program: The int8 program; its grids are placeholders.
        sources: Of its layers.
        classes: The class of each value that it stores as uint8, by id.
        inputs: The classes that each layer reads that computes on integers.
    """

    program: Program
    sources: dict[str, AnySource]
    classes: dict[str, int]
    inputs: dict[str, tuple[int, ...]]


def lowered_form(
    fused: Program,
    sources: Mapping[str, AnySource],
    int8: Collection[str],
    slower: Collection[str],
    classes: Mapping[str, int],
) -> Form:
    """Returns the form of a fused program.

    Args:
        fused: The program.
        sources: Of its layers.
        int8: Outputs of the operations that will compute on integers.
        slower: Outputs of layers that will compute in float32 on int8 weights.
        classes: By value that will be stored as uint8.
    """
    program, made = lower(fused, int8, dict.fromkeys(classes, QParams(1.0, 0)), slower)
    starts = zip(fused.inputs, program.inputs, strict=True)
    values = {here: value for (_, value), (_, here) in starts}
    values |= {here: value for value, here in made.items()}
    found: dict[str, int] = {}
    inputs: dict[str, tuple[int, ...]] = {}
    for op in program.ops:
        if op.out is not None:
            found[op.output] = classes[values[op.inputs[0] if op.kind == "quantize" else op.output]]
        elif op.kind in SHARING and op.inputs[0] in found:
            found[op.output] = found[op.inputs[0]]
        if op.int8 and op.layer is not None and op.inputs[0] in found:
            inputs[op.layer] = (*inputs.get(op.layer, ()), found[op.inputs[0]])
    return Form(program, dict(sources), found, inputs)


def train_form(
    traced: tuple[Program, Mapping[str, AnySource]],
    shapes: Shapes,
    found: Mapping[str, str],
    draft: Draft,
    classes: Mapping[str, int],
    excluded: Collection[str],
) -> Form:
    """Returns the form of the train-mode program.

    It quantizes just the values that the eval-mode program does; what train mode alone computes
    stays float.

    Args:
        traced: The train-mode program as traced, and its sources.
        shapes: Of its values.
        found: The eval-mode value of each of its values, from `match_values`.
        draft: What the eval-mode program becomes.
        classes: By value of the draft that will be stored as uint8.
        excluded: Names of layers that stay float.

    Raises:
        UnsupportedError: A dropout stands where the eval-mode program fuses.
    """
    fused, sources = fuse(*traced, shapes, excluded)
    layers = [op for op in fused.ops if op.kind != "dropout"]
    acting = {op.output for op in layers if found.get(op.output) in draft.int8}
    slower = {op.output for op in layers if found.get(op.output) in draft.slower}
    mine = {found[op.output]: op for op in layers if op.output in acting | slower}
    for op in draft.program.ops:
        if op.output in draft.int8 | draft.slower.keys() and not _same(op, mine.get(op.output)):
            raise UnsupportedError(
                "train mode does something between the parts of this layer",
                where=op.name,
                hint="let no dropout stand between a layer and its norm or activation, or leave "
                "the layer float: config.exclude",
            )
    here = {v: classes[found[v]] for v in _values(fused) if found.get(v) in classes}
    return lowered_form(fused, sources, acting, slower, here)


def _same(op: Op, other: Op | None) -> bool:
    if other is None:
        return False
    args = {name: value for name, value in other.args.items() if name != "dropout"}
    return (op.kind, op.args, len(op.inputs)) == (other.kind, args, len(other.inputs))


def _values(program: Program) -> list[str]:
    return [value for _, value in program.inputs] + [op.output for op in program.ops]

"""Fewer, larger operations: norms folded, activations and residual sums attached."""

from collections.abc import Collection, Mapping
from dataclasses import replace

from torchcompress.quantization.operations import (
    FUSED_ACTIVATIONS,
    LINEAR_ACTIVATIONS,
    RESIDUAL_ACTIVATIONS,
)
from torchcompress.quantization.program import Op, Program, Shapes
from torchcompress.quantization.sources import AnySource, Source, Sources

_FUSING = ("conv1d", "conv2d", "conv3d", "linear", "affine")
"""Layers that take in what follows."""


def fuse(
    program: Program,
    sources: Mapping[str, AnySource],
    shapes: Shapes,
    excluded: Collection[str] = (),
) -> tuple[Program, dict[str, AnySource]]:
    """Folds norms into layers, then attaches residual sums and activations to them.

    A layer takes in what follows only where nothing else reads its output.

    Args:
        program: As traced.
        sources: Of its layers.
        shapes: Of its values; a sum is fused only where the shapes are equal.
        excluded: Names of layers that stay float; these take no sum.

    Returns:
        The shorter program and the sources of its layers.
    """
    program, sources = _fold_norms(program, sources, shapes)
    program = _attach_dropouts(program)
    program = _attach_sums(program, shapes, excluded)
    program = _attach_activations(program)
    return _with_plain_keys(program, sources)


def _with_plain_keys(
    program: Program, sources: Mapping[str, AnySource]
) -> tuple[Program, dict[str, AnySource]]:
    """Renames layers after their modules and drops the sources that folding left over."""
    registry = Sources()
    ops = [
        op
        if op.layer is None
        else replace(op, layer=registry.key(_path(op.name), sources[op.layer]))
        for op in program.ops
    ]
    return program.with_ops(ops), registry.by_key


def _path(name: str) -> str:
    """Returns the module path of a call, without the one character that a key cannot hold."""
    return name.split("#")[0].replace("/", "_")


def _only_read_here(program: Program) -> dict[str, Op]:
    """Returns the values that exactly one operand reads, with the op that made them."""
    readers = program.readers()
    return {op.output: op for op in program.ops if len(readers[op.output]) == 1}


def _plain(op: Op | None, kinds: tuple[str, ...]) -> bool:
    """Returns whether an op is a bare layer that can take in what follows."""
    return op is not None and op.kind in kinds and op.args["activation"] is None


def _fold_norms(
    program: Program, sources: Mapping[str, AnySource], shapes: Shapes
) -> tuple[Program, dict[str, AnySource]]:
    registry = Sources(dict(sources))
    single = _only_read_here(program)
    ops: dict[str, Op] = {}
    for op in program.ops:
        before = single.get(op.inputs[0]) if op.kind == "affine" else None
        # A norm before it may have been folded already: take what stands there now.
        layer = ops[before.output] if before is not None else None
        if layer is None or not _takes_norm(layer, shapes):
            ops[op.output] = op
            continue
        source, norm = (registry.by_key[str(part.layer)] for part in (layer, op))
        assert isinstance(source, Source)
        assert isinstance(norm, Source)
        key = registry.key(layer.name, replace(source, norms=source.norms + norm.norms))
        del ops[layer.output]
        ops[op.output] = replace(layer, layer=key, output=op.output)
    return program.with_ops(list(ops.values())), registry.by_key


def _takes_norm(op: Op, shapes: Shapes) -> bool:
    # A batch norm acts on dimension 1, a linear layer writes the last one.
    if op.kind == "linear" and len(shapes[op.output]) != 2:
        return False
    return op.kind.startswith("conv_transpose") or _plain(op, _FUSING)


def _attach_dropouts(program: Program) -> Program:
    """Attaches a dropout between a convolution and a sum, which train mode alone has."""
    single = _only_read_here(program)
    readers = program.readers()
    ops: dict[str, Op] = {}
    for op in program.ops:
        conv = single.get(op.inputs[0]) if op.kind == "dropout" else None
        summed = [reader is not None and reader.kind == "add" for reader in readers[op.output]]
        if conv is None or not _plain(conv, ("conv2d",)) or summed != [True]:
            ops[op.output] = op
            continue
        del ops[conv.output]
        args = {**conv.args, "dropout": op.args}
        ops[op.output] = replace(conv, args=args, output=op.output)
    return program.with_ops(list(ops.values()))


def _attach_sums(program: Program, shapes: Shapes, excluded: Collection[str]) -> Program:
    single = _only_read_here(program)
    moved: dict[str, Op] = {}
    for op in program.ops:
        if op.kind != "add" or len(shapes[op.output]) != 4:
            continue
        for mine, other in (op.inputs, op.inputs[::-1]):
            conv = single.get(mine)
            if conv is None or not _plain(conv, ("conv2d",)) or conv.name in excluded:
                continue
            if shapes[mine] == shapes[other]:
                joined = replace(conv, inputs=(*conv.inputs, other), output=op.output)
                moved[mine], moved[op.output] = op, joined
                break
    gone = {value for value, op in moved.items() if op.output != value}
    kept = [moved.get(op.output, op) for op in program.ops if op.output not in gone]
    return program.with_ops(kept)


def _attach_activations(program: Program) -> Program:
    single = _only_read_here(program)
    ops: dict[str, Op] = {}
    for op in program.ops:
        layer = single.get(op.inputs[0]) if op.kind == "activation" else None
        if layer is None or not _takes_activation(layer, op.args["name"]):
            ops[op.output] = op
            continue
        del ops[layer.output]
        args = {**layer.args, "activation": op.args["name"]}
        ops[op.output] = replace(layer, args=args, output=op.output)
    return program.with_ops(list(ops.values()))


def _takes_activation(op: Op, name: str) -> bool:
    if not _plain(op, _FUSING):
        return False
    if op.kind == "linear":
        return name in LINEAR_ACTIVATIONS
    return name in (RESIDUAL_ACTIVATIONS if len(op.inputs) > 1 else FUSED_ACTIVATIONS)

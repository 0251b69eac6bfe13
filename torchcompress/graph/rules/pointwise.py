"""The rule for pointwise operations: labels that meet are coupled."""

from typing import Any

import torch

from torchcompress.graph.labels import Labels, Vector, varying
from torchcompress.graph.operands import tensors_among
from torchcompress.graph.rules.meeting import freeze_dims, met_with, set_results
from torchcompress.graph.rules.registry import FIXED, Args, Context, Kwargs, argument, rule


@rule(torch.Tag.pointwise)
@rule("aten._prelu_kernel", "aten.fill", "aten.floor_divide", "aten.hardswish",
      "aten.log_sigmoid_forward", "aten.max.other", "aten.min.other", "aten.native_dropout",
      "aten.rrelu_with_noise", "aten.zero")  # fmt: skip
def pointwise(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """Operands are broadcast; the dimensions that meet are coupled.

    The result of a comparison carries labels like any other. A dimension of length one is
    broadcast and meets nothing, nor does a neutral operand.
    """
    operands = tensors_among((args, {**kwargs, "out": None}))
    known = [ctx.labels(tensor) for tensor in operands]
    shape = (out[0] if isinstance(out, tuple) else out).shape
    dims: list[Vector | None] = []
    for dim, size in enumerate(shape):
        meeting = [
            (tensor, labels, own)
            for tensor, labels in zip(operands, known, strict=True)
            if (own := dim - len(shape) + tensor.dim()) >= 0 and tensor.shape[own] == size
        ]
        dims.append(met_with(ctx, meeting))
    neutral = bool(operands) and all(labels.neutral for labels in known)
    set_results(ctx, out, Labels(tuple(dims), neutral))


@rule("aten.linalg_cross")
def cross(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """One dimension of length three is mixed; the others meet."""
    for tensor in args[:2]:
        freeze_dims(ctx, tensor, [argument(args, kwargs, 2, "dim", -1)], "is a cross product's")
    pointwise(ctx, args, kwargs, out)


@rule("aten.glu")
def glu(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """One half of a dimension gates the other, index by index."""
    dim = argument(args, kwargs, 1, "dim", -1)
    labels = ctx.labels(args[0])
    vector = labels.at(dim)
    if vector is not None:
        gated, gate = vector.reshape(2, -1)
        ctx.couplings.couple(gated, gate, FIXED)
        labels = labels.with_dim(dim, varying(gated))
    ctx.set(out, labels)

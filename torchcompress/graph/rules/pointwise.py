"""The rule for pointwise operations: labels that meet are coupled."""

from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

from torchcompress.graph.labels import Labels, Vector
from torchcompress.graph.rules.registry import FIXED, Context, rule


@rule("aten.relu", "aten.relu6", "aten.hardtanh", "aten.hardswish", "aten.hardsigmoid",
      "aten.sigmoid", "aten.silu", "aten.gelu", "aten.leaky_relu", "aten.elu", "aten.tanh",
      "aten.softplus", "aten.mish", "aten.threshold", "aten.clamp", "aten.clamp_min",
      "aten.clamp_max", "aten.abs", "aten.neg", "aten.exp", "aten.log", "aten.sqrt", "aten.rsqrt",
      "aten.pow", "aten.square", "aten.reciprocal", "aten.add", "aten.sub", "aten.rsub",
      "aten.mul", "aten.div", "aten.maximum", "aten.minimum", "aten.addcmul", "aten.where",
      "aten.fill", "aten.zero", "aten.eq", "aten.ne", "aten.lt", "aten.le", "aten.gt", "aten.ge",
      "aten.logical_not", "aten.masked_fill", "aten._prelu_kernel")  # fmt: skip
def pointwise(ctx: Context, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """Operands are broadcast; each pair of labelled dimensions that meet is coupled.

    A labelled dimension that meets an unlabelled one of the same length is frozen. A dimension of
    length 1 is broadcast and meets nothing, nor does a neutral operand.
    """
    operands = [t for t in tree_leaves((args, {**kwargs, "out": None})) if isinstance(t, Tensor)]
    parts = [(t, ctx.labels(t)) for t in operands]
    solid = [(t, labels) for t, labels in parts if not labels.neutral]
    dims: list[Vector | None] = [None] * out.dim()
    for dim in range(out.dim()):
        meeting = []
        for tensor, labels in solid:
            own = dim - (out.dim() - tensor.dim())
            if own >= 0 and tensor.shape[own] == out.shape[dim] and out.shape[dim] > 1:
                meeting.append(labels.dims[own])
        dims[dim] = next((vector for vector in meeting if vector is not None), None)
        if len(meeting) > 1 and dims[dim] is not None:
            for vector in meeting:
                ctx.couplings.couple(dims[dim], vector, FIXED)
    ctx.set(out, Labels(tuple(dims), neutral=bool(parts) and not solid))

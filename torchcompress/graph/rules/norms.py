"""Rules for norms: per-channel norms are exact, norms over channels leave out what is gone."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from torchcompress.graph.events import Mask
from torchcompress.graph.labels import Labels
from torchcompress.graph.rules.registry import FIXED, Context, rule

Args = tuple[Any, ...]
Kwargs = dict[str, Any]


@rule("aten.native_batch_norm", "aten._native_batch_norm_legit_no_training",
      "aten._native_batch_norm_legit", "aten.cudnn_batch_norm")  # fmt: skip
def batch_norm(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """A per-channel norm couples its parameters and buffers to the channels."""
    labels = ctx.labels(args[0])
    for tensor in args[1:5]:
        if isinstance(tensor, Tensor):
            ctx.couplings.couple(labels.dims[1], ctx.labels(tensor).dims[0], FIXED)
    ctx.set(out[0], labels)


@rule("aten.native_layer_norm", "aten._fused_rms_norm")
def layer_norm(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """The last dimensions are normalised together; the weight and bias are coupled to them."""
    x, shape = args[:2]
    labels, first = ctx.labels(x), x.dim() - len(shape)
    reads, writes = [], []
    affine = [(place, args[place]) for place in (2, 3) if isinstance(args[place], Tensor)]
    for dim in range(first, x.dim()):
        vector = labels.dims[dim]
        for place, tensor in affine:
            own = ctx.labels(tensor).dims[dim - first]
            ctx.couplings.couple(vector, own, FIXED)
            if vector is not None:
                reads.append(Mask(place, dim - first, vector))
        if vector is not None:
            reads.append(Mask(0, dim, vector))
            writes.append(Mask(0, dim, vector))

    def resize(args: Args, left: Callable[..., int]) -> Args:
        return args[0], list(args[0].shape[first:]), *args[2:]

    ctx.selection(reads, writes, resize)
    ctx.set(out[0], labels)
    for statistic in out[1:]:
        ctx.set(statistic, Labels((*labels.dims[:first], *(None for _ in shape))))

"""Rules for norms: per-channel norms are exact, norms over channels leave out what is gone."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from torchcompress.graph.events import Mask
from torchcompress.graph.labels import Labels, Vector
from torchcompress.graph.rules.meeting import freeze_dims
from torchcompress.graph.rules.registry import FIXED, Args, Context, Kwargs, rule


@rule("aten.native_batch_norm", "aten._native_batch_norm_legit_no_training",
      "aten._native_batch_norm_legit", "aten.cudnn_batch_norm")  # fmt: skip
def batch_norm(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """A per-channel norm couples its parameters and buffers to the channels."""
    labels = ctx.labels(args[0])
    for tensor in args[1:5]:
        if isinstance(tensor, Tensor):
            ctx.couplings.couple(labels.dims[1], ctx.labels(tensor).dims[0], FIXED)
    if any(value is True for value in args):  # In training, the statistics are of the batch.
        others = [dim for dim in range(args[0].dim()) if dim != 1]
        freeze_dims(ctx, args[0], others, "is averaged over by a batch norm")
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

    def resize(args: Args, left: Callable[[Vector], int]) -> Args:
        return args[0], list(args[0].shape[first:]), *args[2:]

    ctx.selection(reads, writes, resize)
    ctx.set(out[0], labels)
    for statistic in out[1:]:
        ctx.set(statistic, Labels((*labels.dims[:first], *(None for _ in shape))))


@rule("aten.native_group_norm")
def group_norm(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """Each group of channels is normalised on its own.

    Whole groups go, which is exact, or the same offsets of every group.
    """
    x, count = args[0], args[6]
    labels = ctx.labels(x)
    channels, affine = labels.dims[1], [place for place in (1, 2) if args[place] is not None]
    for place in affine:
        ctx.couplings.couple(channels, ctx.labels(args[place]).dims[0], FIXED)
    group: Vector | None = None
    if channels is not None:
        group, offset = ctx.couplings.split(channels, (count, len(channels) // count))
        reads = [Mask(0, 1, channels), *(Mask(place, 0, channels) for place in affine)]
        writes = [Mask(0, 1, channels)]
        if group is not None:
            writes += [Mask(statistic, 1, group) for statistic in (1, 2)]

        def resize(args: Args, left: Callable[[Vector], int]) -> Args:
            groups = count if group is None else left(group)
            return *args[:4], args[0].shape[1], args[5], groups, *args[7:]

        ctx.selection(
            reads, writes, resize, inexact=[] if offset is None else [offset], groups=group
        )
    for dim, vector in enumerate(labels.dims):
        if dim > 1:
            ctx.couplings.freeze(vector, "is a position that a group norm reduces over")
    ctx.set(out[0], Labels((labels.dims[0], channels, *(None for _ in x.shape[2:]))))
    for statistic in out[1:]:
        ctx.set(statistic, Labels((labels.dims[0], group)))

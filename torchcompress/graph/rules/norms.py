"""Rules for norms: per-channel norms are exact, norms over channels leave out what is gone."""

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from torchcompress.graph.events import Mask
from torchcompress.graph.labels import Labels, Vector
from torchcompress.graph.rules.registry import FIXED, Args, Context, Kwargs, argument, rule


@rule("aten.native_batch_norm", "aten._native_batch_norm_legit_no_training",
      "aten._native_batch_norm_legit", "aten.cudnn_batch_norm",
      "aten.miopen_batch_norm")  # fmt: skip
def batch_norm(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """A per-channel norm couples its parameters and buffers to the channels.

    With statistics of the batch it reads every other dimension as a whole.
    """
    labels = ctx.labels(args[0])
    tensors = [value for value in args[1:5] if isinstance(value, Tensor)]
    for tensor in tensors:
        ctx.couplings.couple(labels.dims[1], ctx.labels(tensor).dims[0], FIXED)
    if any(value is True for value in args):  # The only flag is that of training.
        masks = [Mask(0, d, v) for d, v in enumerate(labels.dims) if v is not None and d != 1]
        ctx.selection(masks, masks)
    ctx.set(out[0], labels)
    for statistic in out[1:3]:
        if statistic.shape == args[0].shape[1:2]:
            ctx.set(statistic, Labels(labels.dims[1:2]))


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
    """Each group of channels is normalised on its own, over all positions.

    Whole groups go, which is exact, or the same offsets of every group.
    """
    x, count = args[0], args[6]
    labels = ctx.labels(x)
    channels, affine = labels.dims[1], [place for place in (1, 2) if args[place] is not None]
    for place in affine:
        ctx.couplings.couple(channels, ctx.labels(args[place]).dims[0], FIXED)
    positions = [Mask(0, d, v) for d, v in enumerate(labels.dims) if v is not None and d > 1]
    reads, writes = [*positions], [*positions]
    inexact = [mask.labels for mask in positions]
    group: Vector | None = None
    if channels is not None:
        group, offset = ctx.couplings.split(channels, (count, len(channels) // count))
        reads += [Mask(0, 1, channels), *(Mask(place, 0, channels) for place in affine)]
        writes.append(Mask(0, 1, channels))
        inexact += [] if offset is None else [offset]
    if group is not None:
        writes += [Mask(statistic, 1, group) for statistic in (1, 2)]

    def resize(args: Args, left: Callable[[Vector], int]) -> Args:
        batch, channels, *positions = args[0].shape
        groups = count if group is None else left(group)
        return *args[:3], batch, channels, math.prod(positions), groups, *args[7:]

    ctx.selection(reads, writes, resize, inexact=inexact, groups=group)
    ctx.set(out[0], labels)
    for statistic in out[1:]:
        ctx.set(statistic, Labels((labels.dims[0], group)))


@rule("aten._weight_norm_interface")
def weight_norm(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """Each slice of a weight is given a length of its own; a cut leaves it the part it had."""
    direction, length = args[:2]
    labels, dim = ctx.labels(direction), argument(args, kwargs, 2, "dim", 0)
    ctx.couplings.couple(labels.dims[dim], ctx.labels(length).dims[dim], FIXED)
    weight, norms = out
    ctx.set(weight, labels)
    ctx.set(norms, Labels.none(norms.dim()).with_dim(dim, labels.dims[dim]))
    ctx.derive(weight, direction)

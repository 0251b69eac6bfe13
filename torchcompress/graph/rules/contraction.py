"""Rules for contractions: convolutions and matrix products."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from torchcompress.graph.events import Mask
from torchcompress.graph.labels import Labels, Vector
from torchcompress.graph.rules.meeting import freeze_all, freeze_dims, met
from torchcompress.graph.rules.registry import FIXED, Args, Context, Kwargs, rule

SUMMED = "is summed with a dimension of fixed size"
KERNEL = "the size of a kernel"


def _mask(argument: int, dim: int, labels: Vector | None) -> list[Mask]:
    return [] if labels is None else [Mask(argument, dim, labels)]


@rule("aten.convolution")
def convolution(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """Input channels are coupled to the weight; output channels come from it.

    With groups, both sides are grids of (group, offset): whole groups go, or the same offsets of
    every group.
    """
    _convolve(ctx, args[:3], args[8], out, transposed=args[6])


@rule("torchvision.deform_conv2d")
def deformable_convolution(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """A convolution that reads where its offsets say."""
    x, weight, offset, mask, bias = args[:5]
    groups, offset_groups = args[11:13]
    freeze_all(ctx, (offset, mask), "says where a convolution reads")
    freeze_dims(ctx, x, [0, 1] if offset_groups > 1 else [0], "is read at offsets of its own")
    _convolve(ctx, (x, weight, bias), groups, out)


def _convolve(
    ctx: Context,
    operands: tuple[Tensor, Tensor, Tensor | None],
    groups: int,
    out: Tensor,
    *,
    transposed: bool = False,
) -> None:
    x, weight, bias = operands
    couplings, labels, own = ctx.couplings, ctx.labels(x), ctx.labels(weight)
    channels = labels.dims[1]
    for vector in labels.dims[2:]:
        couplings.freeze(vector, "is a spatial dimension of a convolution")
    for vector in own.dims[2:]:
        couplings.ignore(vector, KERNEL)
    weight_in, produced = (own.dims[0], own.dims[1]) if transposed else (own.dims[1], own.dims[0])
    group: Vector | None = None
    if groups == 1:
        couplings.couple(channels, weight_in, SUMMED)
    elif transposed:
        couplings.couple(channels, weight_in, SUMMED)
        group, _ = couplings.split(weight_in, (groups, weight.shape[0] // groups))
        produced = couplings.join([group, produced], (groups, weight.shape[1]))
    else:
        group, offset = couplings.split(channels, (groups, weight.shape[1]))
        couplings.couple(offset, weight_in, SUMMED)
        produced_group, _ = couplings.split(produced, (groups, weight.shape[0] // groups))
        couplings.couple(group, produced_group, SUMMED)
    if bias is not None:
        couplings.couple(produced, ctx.labels(bias).dims[0], FIXED)
    spatial = x.shape[2:] if transposed else out.shape[2:]
    sizes = [*spatial, *weight.shape[2:]]
    axes = [(x.shape[0], labels.dims[0]), *((size, None) for size in sizes)]
    axes += list(zip(weight.shape[:2], own.dims[:2], strict=True))
    ctx.contraction(ctx.name(weight), out, axes, _mask(0, 1, channels), produced, group)
    ctx.set(out, Labels((labels.dims[0], produced, *(None for _ in out.shape[2:]))))


@rule("aten.mm")
def mm(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """A matrix product."""
    _product(ctx, args[0], args[1], 0, out)


@rule("aten.bmm")
def bmm(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """A batch of matrix products."""
    _product(ctx, args[0], args[1], 0, out)


@rule("aten.addmm", "aten.baddbmm")
def addmm(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """A matrix product plus a bias, which is broadcast."""
    _product(ctx, args[1], args[2], 1, out)
    bias, result = ctx.labels(args[0]), ctx.labels(out)
    for dim in range(1, args[0].dim() + 1):
        if args[0].shape[-dim] == out.shape[-dim] > 1 and not bias.neutral:
            ctx.couplings.couple(result.dims[-dim], bias.dims[-dim], FIXED)


@rule("aten.addbmm")
def addbmm(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """A sum of matrix products, plus a matrix, which is broadcast."""
    for tensor in args[1:3]:
        freeze_dims(ctx, tensor, [0], SUMMED)
    addmm(ctx, args, kwargs, out)


@rule("aten._cdist_forward", "aten._euclidean_dist")
def distance(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """Distances between rows: an index that is zero in both adds nothing to them."""
    left, right = ctx.labels(args[0]), ctx.labels(args[1])
    summed = met(ctx, [(args[0], -1), (args[1], -1)])
    batch = _batch(ctx, left.dims[:-2], right.dims[:-2])
    if summed is not None:
        reads = [Mask(place, args[place].dim() - 1, summed) for place in (0, 1)]
        ctx.selection(reads, [], inexact=[])
    ctx.set(out, Labels((*batch, left.dims[-2], right.dims[-2])))


@rule("aten.mv")
def mv(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """A matrix by a vector."""
    _vector_product(ctx, args[0], args[1], 0, out)


@rule("aten.addmv")
def addmv(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """A matrix by a vector, plus a vector."""
    _vector_product(ctx, args[1], args[2], 1, out)
    if args[0].dim() and args[0].shape == out.shape:
        met(ctx, [(out, 0), (args[0], 0)])


@rule("aten.addr")
def addr(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """The outer product of two vectors plus a matrix, which is broadcast."""
    matrix, *vectors = args[:3]
    dims = []
    for dim, vector in enumerate(vectors):
        own = dim - 2 + matrix.dim()
        broad = own < 0 or matrix.shape[own] != out.shape[dim]
        dims.append(met(ctx, [(vector, 0)] if broad else [(vector, 0), (matrix, own)]))
    ctx.set(out, Labels(tuple(dims)))


@rule("aten.dot", "aten.vdot")
def dot(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """A vector by a vector."""
    _vector_product(ctx, args[0], args[1], 0, out)


def _vector_product(ctx: Context, a: Tensor, vector: Tensor, first: int, out: Tensor) -> None:
    left, right = ctx.labels(a), ctx.labels(vector).dims[0]
    summed = left.dims[-1]
    ctx.couplings.couple(summed, right, SUMMED)
    axes = [*zip(a.shape[:-1], left.dims[:-1], strict=True), (vector.shape[0], summed)]
    produced = left.dims[-2] if a.dim() > 1 else None
    ctx.contraction(ctx.name(a), out, axes, _mask(first, a.dim() - 1, summed), produced)
    ctx.set(out, Labels(left.dims[:-1]))


def _product(ctx: Context, a: Tensor, b: Tensor, first: int, out: Tensor) -> None:
    left, right = ctx.labels(a), ctx.labels(b)
    ctx.couplings.couple(left.dims[-1], right.dims[-2], SUMMED)
    batch = _batch(ctx, left.dims[:-2], right.dims[:-2])
    summed = left.dims[-1] if left.dims[-1] is not None else right.dims[-2]
    axes = [
        *zip(a.shape[:-2], batch, strict=True),
        (a.shape[-2], left.dims[-2]),
        (a.shape[-1], summed),
        (b.shape[-1], right.dims[-1]),
    ]
    weight, produced = ctx.name(b), right.dims[-1]
    if weight is None:
        weight, produced = ctx.name(a), left.dims[-2]
    heads = batch[0] if weight is None and len(batch) == 1 else None
    if heads is not None:
        prefer_axis(ctx, heads, (summed, left.dims[-2], right.dims[-1]))
    ctx.contraction(weight, out, axes, _mask(first, a.dim() - 1, left.dims[-1]), produced, heads)
    ctx.set(out, Labels((*batch, left.dims[-2], right.dims[-1])[-out.dim() :]))


def prefer_axis(ctx: Context, heads: Vector, dims: Sequence[Vector | None]) -> None:
    """Prefers the heads of an attention, or the dimensions inside each, as was asked."""
    for vector in dims if ctx.attention == "head_dims" else (heads,):
        ctx.couplings.prefer(vector)


def _batch(
    ctx: Context, left: Sequence[Vector | None], right: Sequence[Vector | None]
) -> list[Vector | None]:
    batch = []
    for a, b in zip(left, right, strict=True):
        ctx.couplings.couple(a, b, FIXED)
        batch.append(b if a is None else a)
    return batch

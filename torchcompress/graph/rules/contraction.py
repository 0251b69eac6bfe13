"""Rules for contractions: convolutions, matrix products and lookups in a table."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from torchcompress.graph.events import Mask
from torchcompress.graph.labels import Labels, Vector
from torchcompress.graph.rules.registry import FIXED, Context, rule

Args = tuple[Any, ...]
Kwargs = dict[str, Any]

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
    x, weight, bias = args[:3]
    transposed, groups = args[6], args[8]
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
    weight = ctx.name(b) or ctx.name(a)
    ctx.contraction(weight, out, axes, _mask(first, a.dim() - 1, left.dims[-1]), right.dims[-1])
    ctx.set(out, Labels((*batch, left.dims[-2], right.dims[-1])))


def _batch(
    ctx: Context, left: Sequence[Vector | None], right: Sequence[Vector | None]
) -> list[Vector | None]:
    batch = []
    for a, b in zip(left, right, strict=True):
        ctx.couplings.couple(a, b, FIXED)
        batch.append(b if a is None else a)
    return batch


@rule("aten.embedding")
def embedding(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """Rows of a table are looked up, so that each row must stay."""
    table = ctx.labels(args[0])
    ctx.couplings.freeze(table.dims[0], "is looked up by index")
    ctx.set(out, Labels((*(None for _ in args[1].shape), table.dims[1])))

"""Rules for rarer data movement: the operation itself moves the positions of each dimension."""

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from torchcompress.graph.labels import Labels, Vector, along, varying
from torchcompress.graph.rules.meeting import freeze_dims
from torchcompress.graph.rules.movement import reshaped
from torchcompress.graph.rules.registry import FIXED, Args, Context, Kwargs, Rule, argument, rule

SPATIAL = "is a spatial dimension of a shuffle"

Stays = Callable[[Args, Kwargs, int], Iterable[int]]
"""Returns the dimensions of the input that must stay, by its rank."""


def moved(ctx: Context, tensor: Tensor, move: Callable[[Tensor], Tensor], out: Tensor) -> Labels:
    """Returns the labels of a tensor after a movement that knows nothing of its values.

    The movement is run on a tensor that holds the positions along a labelled dimension, counted
    from one, so that padding shows as zero. A dimension whose positions end up along several
    dimensions is frozen.

    Args:
        ctx: The tracer.
        tensor: What is moved.
        move: How.
        out: The result.
    """
    labels = ctx.labels(tensor)
    dims: list[Vector | None] = [None] * out.dim()
    for dim, vector in enumerate(labels.dims):
        if vector is None:
            continue
        shape = [1] * tensor.dim()
        shape[dim] = vector.size
        count = torch.arange(1, vector.size + 1, dtype=torch.float64, device=tensor.device)
        seen = move(count.view(shape).expand(tensor.shape)).cpu().numpy().astype(np.int64)
        found = [(d, p) for d in range(seen.ndim) if (p := along(seen, d)) is not None]
        if len(found) != 1:
            ctx.couplings.freeze(vector, "is spread over several dimensions")
            continue
        target, positions = found[0]
        arrived = np.where(positions > 0, vector[positions - 1], 0)
        if dims[target] is not None:
            ctx.couplings.couple(dims[target], arrived, FIXED)
        dims[target] = arrived
    return Labels(tuple(dims), labels.neutral)


def _moving(operation: str, stays: Stays) -> Rule:
    packet = getattr(torch.ops.aten, operation.removeprefix("aten."))

    def apply(ctx: Context, args: Args, kwargs: Kwargs, out: Tensor) -> None:
        tensor = args[0]
        dims = [dim % tensor.dim() for dim in stays(args, kwargs, tensor.dim())]
        freeze_dims(ctx, tensor, dims, f"is a dimension of {operation.removeprefix('aten.')}")
        options = {name: value for name, value in kwargs.items() if name != "out"}
        ctx.set(out, moved(ctx, tensor, lambda t: packet(t, *args[1:], **options), out))

    return apply


def _none(args: Args, kwargs: Kwargs, rank: int) -> Iterable[int]:
    return ()


def _last_two(args: Args, kwargs: Kwargs, rank: int) -> Iterable[int]:
    return (-2, -1)


def _named(args: Args, kwargs: Kwargs, rank: int) -> Iterable[int]:
    return argument(args, kwargs, 2, "dims", ()) or range(rank)


def _diagonal(args: Args, kwargs: Kwargs, rank: int) -> Iterable[int]:
    return argument(args, kwargs, 2, "dim1", 0), argument(args, kwargs, 3, "dim2", 1)


MOVEMENTS: dict[str, Stays] = {
    "aten.flip": _none,
    "aten.rot90": _none,
    "aten.unfold": _none,
    "aten.im2col": _none,
    "aten.diag_embed": _none,
    "aten.roll": _named,
    "aten.tril": _last_two,
    "aten.triu": _last_two,
    "aten.diagonal": _diagonal,
    "aten.diagonal_copy": _diagonal,
}
"""Movements, each with the dimensions along which it takes or drops fixed positions."""

for _operation, _stays in MOVEMENTS.items():
    rule(_operation)(_moving(_operation, _stays))


@rule("aten.pixel_shuffle")
def pixel_shuffle(ctx: Context, args: Args, kwargs: Kwargs, out: Tensor) -> None:
    """Channels become space: (C r r, H, W) to (C, H r, W r)."""
    _gathered(ctx, args[0], args[1] ** 2, out, (-2, -1))


@rule("aten.col2im")
def col2im(ctx: Context, args: Args, kwargs: Kwargs, out: Tensor) -> None:
    """The inverse of im2col: (C k k, L) to (C, H, W), where patches are summed."""
    _gathered(ctx, args[0], math.prod(args[2]), out, (-1,))


def _gathered(ctx: Context, x: Tensor, size: int, out: Tensor, spatial: Sequence[int]) -> None:
    """Each channel of the result is made of `size` channels in a row, which go together."""
    labels = ctx.labels(x)
    freeze_dims(ctx, x, spatial, SPATIAL)
    channel, place = ctx.couplings.split(
        labels.dims[-3 if len(spatial) == 2 else -2], (out.shape[-3], size)
    )
    ctx.couplings.freeze(place, SPATIAL)
    ctx.set(
        out, Labels((*labels.dims[: out.dim() - 3], varying(channel), None, None), labels.neutral)
    )


@rule("aten.pixel_unshuffle")
def pixel_unshuffle(ctx: Context, args: Args, kwargs: Kwargs, out: Tensor) -> None:
    """Space becomes channels: (C, H r, W r) to (C r r, H, W)."""
    x, r = args[0], args[1]
    labels = ctx.labels(x)
    freeze_dims(ctx, x, (-2, -1), SPATIAL)
    channel = ctx.couplings.join([labels.dims[-3], None], (x.shape[-3], r**2))
    ctx.set(out, Labels((*labels.dims[:-3], channel, None, None), labels.neutral))


@rule("aten.channel_shuffle", "aten.native_channel_shuffle")
def channel_shuffle(ctx: Context, args: Args, kwargs: Kwargs, out: Tensor) -> None:
    """Channels are taken from each group in turn."""
    x, groups = args[0], args[1]
    batch, channels, *space = x.shape
    split, turned = (batch, groups, channels // groups, *space), (0, 2, 1, *range(3, x.dim() + 1))
    labels = reshaped(ctx, ctx.labels(x), x.shape, split)
    labels = Labels(tuple(labels.dims[d] for d in turned), labels.neutral)
    ctx.set(out, reshaped(ctx, labels, [split[d] for d in turned], out.shape))

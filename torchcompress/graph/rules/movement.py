"""Rules for data movement: the labels move as the data does."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from torchcompress.graph.labels import Labels, Vector, reshape_groups, varying
from torchcompress.graph.rules.meeting import freeze_all
from torchcompress.graph.rules.registry import FIXED, Args, Context, Kwargs, argument, rule


@rule("aten.clone", "aten.detach", "aten.alias", "aten.contiguous", "aten._to_copy", "aten.to",
      "aten.lift_fresh", "aten.positive", "aten._conj", "aten._neg_view", "aten.resolve_conj",
      "aten.resolve_neg", "aten.view_as", "aten.detach_copy", "aten.alias_copy")  # fmt: skip
def same(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """The result has the labels of its input."""
    ctx.set(out, ctx.labels(args[0]))


@rule("aten.view", "aten._unsafe_view", "aten.reshape", "aten.unsqueeze", "aten.squeeze",
      "aten.flatten", "aten.unflatten", "aten._reshape_alias", "aten._reshape_copy")  # fmt: skip
def reshape(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """Dimensions are split and joined; see `Couplings.split` and `Couplings.join`."""
    if out.dtype != args[0].dtype:
        freeze_all(ctx, args[0], "is read as another dtype")
        ctx.set(out, Labels.none(out.dim()))
        return
    ctx.set(out, reshaped(ctx, ctx.labels(args[0]), args[0].shape, out.shape))


def reshaped(ctx: Context, labels: Labels, old: Sequence[int], new: Sequence[int]) -> Labels:
    """Returns the labels of a tensor after a reshape from `old` to `new`."""
    if 0 in old or 0 in new:
        return Labels.none(len(new), neutral=labels.neutral)
    dims: list[Vector | None] = [None] * len(new)
    for olds, news in reshape_groups(old, new):
        vectors = [labels.dims[d] for d in olds]
        if len(olds) == len(news) == 1:
            dims[news[0]] = vectors[0]
            continue
        joined = ctx.couplings.join(vectors, [old[d] for d in olds])
        parts = ctx.couplings.split(joined, [new[d] for d in news], counted=True)
        for d, part in zip(news, parts, strict=True):
            dims[d] = varying(part)
    return Labels(tuple(dims), labels.neutral)


@rule("aten.t")
def t(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """A matrix is transposed."""
    labels = ctx.labels(args[0])
    ctx.set(out, Labels(labels.dims[::-1], labels.neutral))


@rule("aten.transpose", "aten.swapaxes")
def transpose(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """Two dimensions change places."""
    labels = ctx.labels(args[0])
    dims = list(labels.dims)
    dims[args[1]], dims[args[2]] = dims[args[2]], dims[args[1]]
    ctx.set(out, Labels(tuple(dims), labels.neutral))


@rule("aten.permute")
def permute(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """Dimensions are put in another order."""
    labels = ctx.labels(args[0])
    ctx.set(out, Labels(tuple(labels.dims[d] for d in args[1]), labels.neutral))


@rule("aten.expand", "aten.repeat")
def expand(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """A tensor is repeated, so its labels are too."""
    labels = ctx.labels(args[0])
    new = out.dim() - len(labels.dims)
    dims: list[Vector | None] = [None] * new
    for size, vector, length in zip(args[0].shape, labels.dims, out.shape[new:], strict=True):
        dims.append(None if vector is None or size == 0 else np.tile(vector, length // size))
    ctx.set(out, Labels(tuple(dims), labels.neutral))


@rule("aten.slice")
def slice_(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """A range of one dimension is taken."""
    dim = argument(args, kwargs, 1, "dim", 0)
    labels = ctx.labels(args[0])
    vector = labels.at(dim)
    if vector is not None:
        start, end = argument(args, kwargs, 2, "start"), argument(args, kwargs, 3, "end")
        taken = slice(start, end, argument(args, kwargs, 4, "step", 1))
        ctx.couplings.cut(vector, taken)
        labels = labels.with_dim(dim, _part(ctx, vector[taken]))
    ctx.set(out, labels)


def _part(ctx: Context, vector: Vector) -> Vector | None:
    if vector.size == 1:
        ctx.couplings.freeze(vector, "read by a fixed index")
    return varying(vector)


@rule("aten.select")
def select(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """One index of a dimension is taken; it must stay, as must all that it is counted from."""
    tensor, dim, index = args
    labels = ctx.labels(tensor)
    vector = labels.at(dim)
    if vector is not None:
        counted = vector[index:] if index < 0 else vector[: index + 1]
        ctx.couplings.freeze(counted, "read by a fixed index")
    ctx.set(out, _without(labels, dim))


@rule("aten.unbind")
def unbind(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """A dimension is taken apart, so that each of its indices must stay."""
    dim = argument(args, kwargs, 1, "dim", 0)
    labels = ctx.labels(args[0])
    ctx.couplings.freeze(labels.at(dim), "unbound into a fixed number of tensors")
    for part in out:
        ctx.set(part, _without(labels, dim))


def _without(labels: Labels, dim: int) -> Labels:
    dims = list(labels.dims)
    del dims[dim]
    return Labels(tuple(dims), labels.neutral)


@rule("aten.split", "aten.split_with_sizes", "aten.chunk", "aten.unsafe_split",
      "aten.unsafe_split_with_sizes", "aten.unsafe_chunk")  # fmt: skip
def split(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """The parts take their labels along; equal parts must stay equal."""
    dim = argument(args, kwargs, 2, "dim", 0)
    labels = ctx.labels(args[0])
    vector = labels.at(dim)
    sizes = [part.shape[dim] for part in out]
    parts: list[Vector | None] = [None] * len(out)
    if vector is not None:
        cuts = np.split(vector, np.cumsum(sizes)[:-1])
        parts = [_part(ctx, cut) for cut in cuts]
        if len(set(sizes)) == 1:
            ctx.couplings.balance(cuts)
    for part, own in zip(out, parts, strict=True):
        ctx.set(part, labels if vector is None else labels.with_dim(dim, own))


@rule("aten.cat")
def cat(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """Labels are laid end to end along one dimension and coupled along the others."""
    tensors: list[Tensor] = [t for t in args[0] if t.dim() == out.dim()]
    dim = argument(args, kwargs, 1, "dim", 0) % out.dim()
    parts = [ctx.labels(tensor) for tensor in tensors]
    dims = _coupled(ctx, parts, out.dim(), dim)
    if any(labels.dims[dim] is not None for labels in parts):
        dims[dim] = np.concatenate(
            [
                np.zeros(tensor.shape[dim], np.int64) if vector is None else vector
                for tensor, vector in zip(tensors, (p.dims[dim] for p in parts), strict=True)
            ]
        )
    ctx.set(out, Labels(tuple(dims), all(labels.neutral for labels in parts)))


@rule("aten.stack")
def stack(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """A new, unlabelled dimension is made."""
    dim = argument(args, kwargs, 1, "dim", 0) % out.dim()
    parts = [ctx.labels(tensor) for tensor in args[0]]
    dims = _coupled(ctx, parts, out.dim() - 1, None)
    dims.insert(dim, None)
    ctx.set(out, Labels(tuple(dims), all(labels.neutral for labels in parts)))


def _coupled(
    ctx: Context, parts: Sequence[Labels], rank: int, skip: int | None
) -> list[Vector | None]:
    dims: list[Vector | None] = [None] * rank
    solid = [labels for labels in parts if not labels.neutral]
    for d in range(rank):
        if d != skip and solid:
            dims[d] = solid[0].dims[d]
            for labels in solid[1:]:
                ctx.couplings.couple(dims[d], labels.dims[d], FIXED)
                dims[d] = labels.dims[d] if dims[d] is None else dims[d]
    return dims


@rule("aten.constant_pad_nd")
def pad(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """Padding carries no label."""
    labels = ctx.labels(args[0])
    for pair in range(len(args[1]) // 2):
        dim = args[0].dim() - 1 - pair
        vector = labels.dims[dim]
        if vector is not None:
            before, after = args[1][2 * pair : 2 * pair + 2]
            kept = vector[max(-before, 0) : vector.size - max(-after, 0)]
            labels = labels.with_dim(dim, np.pad(kept, (max(before, 0), max(after, 0))))
    ctx.set(out, labels)


@rule("aten.as_strided")
def as_strided(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """Another geometry on the same storage: its labels are read from there."""
    ctx.set(out, ctx.labels(out))


@rule("aten.copy")
def copy(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """The labels of the source, broadcast, replace those of the target."""
    source = ctx.labels(args[1])
    new = out.dim() - len(source.dims)
    grown: list[Vector | None] = [None] * new
    for vector, length in zip(source.dims, out.shape[new:], strict=True):
        grown.append(vector if vector is None or vector.size == length else None)
    ctx.set(out, Labels(tuple(grown), source.neutral))

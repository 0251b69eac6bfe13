"""Rules for reading and writing by index: an indexed dimension must stay, the others pass."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from torchcompress.graph.labels import Labels, Vector
from torchcompress.graph.rules.meeting import freeze_all, freeze_dims, met
from torchcompress.graph.rules.registry import Args, Context, Kwargs, argument, rule

INDEXED = "is read or written by index"
INDEX = "is an index"


@rule("aten.embedding", "aten._embedding_bag", "aten._embedding_bag_forward_only")
def embedding(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """Rows of a table are looked up, so that each row must stay."""
    freeze_dims(ctx, args[0], [0], "is looked up by index")
    freeze_all(ctx, (args[1:], kwargs), INDEX)
    result = out[0] if isinstance(out, tuple) else out
    rows = (None for _ in range(result.dim() - 1))
    ctx.set(result, Labels((*rows, ctx.labels(args[0]).dims[1])))


@rule("aten.index", "aten._unsafe_index")
def index(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """Advanced indexing: the dimensions without an index pass to where they land."""
    tensor, indices = args
    landing = _landing(indices, tensor.dim())
    freeze_all(ctx, indices, INDEX)
    freeze_dims(ctx, tensor, set(range(tensor.dim())) - set(landing), INDEXED)
    labels = ctx.labels(tensor)
    dims: list[Vector | None] = [None] * out.dim()
    for own, target in landing.items():
        dims[target] = labels.dims[own]
    ctx.set(out, Labels(tuple(dims)))


@rule("aten.index_put", "aten._unsafe_index_put", "aten._index_put_impl")
def index_put(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """Values are written by index; the dimensions without an index meet those of the values."""
    tensor, indices, values = args[:3]
    landing = _landing(indices, tensor.dim())
    freeze_all(ctx, indices, INDEX)
    freeze_dims(ctx, tensor, set(range(tensor.dim())) - set(landing), INDEXED)
    rank = tensor.dim() + _added(indices)
    written = {target - rank + values.dim() for target in landing.values()}
    freeze_dims(ctx, values, set(range(values.dim())) - written, INDEXED)
    dims = list(ctx.labels(tensor).dims)
    for own, target in landing.items():
        aligned = target - rank + values.dim()
        meeting = [(tensor, own)] + ([(values, aligned)] if aligned >= 0 else [])
        dims[own] = met(ctx, meeting)
    ctx.set(out, Labels(tuple(dims)))


def _reach(index: Tensor) -> tuple[int, int]:
    """Returns how many dimensions an index takes, and how many it gives in their place."""
    mask = index.dtype in (torch.bool, torch.uint8)
    return (index.dim(), 1) if mask else (1, index.dim())


def _added(indices: Sequence[Tensor | None]) -> int:
    given = [_reach(index) for index in indices if index is not None]
    return max(gives for _, gives in given) - sum(takes for takes, _ in given)


def _landing(indices: Sequence[Tensor | None], rank: int) -> dict[int, int]:
    """Returns where each dimension without an index is found in the result of indexing.

    What the indices give stands where they stood if they were next to each other, else in front.
    """
    taken = [flag for index in indices
             for flag in ([False] if index is None else [True] * _reach(index)[0])]  # fmt: skip
    taken += [False] * (rank - len(taken))
    where = [dim for dim, flag in enumerate(taken) if flag]
    together = where[-1] - where[0] + 1 == len(where)
    start = where[0] if together else 0
    given = _added(indices) + len(where)
    free = [dim for dim, flag in enumerate(taken) if not flag]
    return {dim: place if place < start else place + given for place, dim in enumerate(free)}


@rule("aten.index_select")
def index_select(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """Some indices of one dimension are taken."""
    tensor, dim, index = args
    freeze_all(ctx, index, INDEX)
    labels = ctx.labels(tensor)
    if labels.dims:
        freeze_dims(ctx, tensor, [dim], INDEXED)
        labels = labels.with_dim(dim, None)
    ctx.set(out, labels)


@rule("aten.gather")
def gather(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """One dimension is read by index; the others meet those of the index."""
    tensor, dim, index = args
    dims = _rows(ctx, [tensor, index], dim)
    if dims:
        dims[dim] = ctx.labels(index).dims[dim]
    ctx.set(out, Labels(tuple(dims)))


@rule("aten.scatter", "aten.scatter_add", "aten.scatter_reduce")
def scatter(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """One dimension is written by index; the others meet those of the index and the source."""
    tensor, dim = args[:2]
    _write(ctx, tensor, [t for t in args[2:] if isinstance(t, Tensor) and t.dim()], dim, out)


@rule("aten.index_add", "aten.index_copy", "aten.index_reduce", "aten.index_fill")
def index_write(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """Some indices of one dimension are written; the others meet those of the source."""
    tensor, dim, index, source = args[:4]
    freeze_all(ctx, index, INDEX)
    _write(ctx, tensor, [source] if isinstance(source, Tensor) and source.dim() else [], dim, out)


@rule("aten.slice_scatter")
def slice_scatter(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """A range of one dimension is written; the others meet those of the source."""
    _write(ctx, args[0], [args[1]], argument(args, kwargs, 2, "dim", 0), out)


@rule("aten.select_scatter")
def select_scatter(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """One index of a dimension is written; the others meet those of the source."""
    tensor, source, dim = args[:3]
    _write(ctx, tensor, [source.unsqueeze(dim)], dim, out)


def _write(ctx: Context, tensor: Tensor, others: list[Tensor], dim: int, out: Any) -> None:
    dims = _rows(ctx, [tensor, *others], dim)
    if dims:
        dims[dim] = ctx.labels(tensor).dims[dim]
    ctx.set(out, Labels(tuple(dims)))


def _rows(ctx: Context, tensors: list[Tensor], dim: int) -> list[Vector | None]:
    """Freezes one dimension of each tensor and couples the others where they are equally long."""
    dims: list[Vector | None] = []
    for own in range(tensors[0].dim()):
        if own == dim % tensors[0].dim() or len({t.shape[own] for t in tensors}) > 1:
            for tensor in tensors:
                freeze_dims(ctx, tensor, [own], INDEXED)
            dims.append(None)
        else:
            dims.append(met(ctx, [(tensor, own) for tensor in tensors]))
    return dims

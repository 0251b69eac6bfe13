"""What rules share: dimensions that meet, and tensors that are read as a whole."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from torchcompress.graph.labels import Labels, Vector
from torchcompress.graph.operands import tensors_among
from torchcompress.graph.rules.registry import FIXED, Context


def met(ctx: Context, meeting: Iterable[tuple[Tensor, int]]) -> Vector | None:
    """Couples dimensions of one length that meet index by index, and returns their labels.

    A dimension without labels freezes those that it meets, unless its tensor is the same all
    along it: of length one, expanded, or a uniform fill.

    Args:
        ctx: The tracer.
        meeting: Tensors, each with the dimension that meets the others.
    """
    return met_with(ctx, [(tensor, ctx.labels(tensor), dim) for tensor, dim in meeting])


def met_with(ctx: Context, meeting: Iterable[tuple[Tensor, Labels, int]]) -> Vector | None:
    """Does what `met` does, for tensors whose labels are known."""
    vectors = [
        labels.dims[dim] for tensor, labels, dim in meeting if not _uniform(tensor, labels, dim)
    ]
    first = next((vector for vector in vectors if vector is not None), None)
    if first is not None:
        for vector in vectors:
            ctx.couplings.couple(first, vector, FIXED)
    return first


def _uniform(tensor: Tensor, labels: Labels, dim: int) -> bool:
    if labels.neutral or tensor.shape[dim] == 1:
        return True
    return labels.dims[dim] is None and tensor.stride(dim) == 0


def freeze_dims(ctx: Context, tensor: Tensor, dims: Iterable[int], reason: str) -> None:
    """Freezes some dimensions of a tensor."""
    labels = ctx.labels(tensor)
    for dim in dims:
        ctx.couplings.freeze(labels.dims[dim], reason)


def freeze_all(ctx: Context, values: Any, reason: str) -> None:
    """Freezes every dimension of every tensor among an operation's arguments."""
    for tensor in tensors_among(values):
        freeze_dims(ctx, tensor, range(tensor.dim()), reason)


def set_results(ctx: Context, out: Any, labels: Labels) -> None:
    """Labels every result of an operation; one of another rank carries none."""
    for result in tensors_among(out):
        fits = result.dim() == len(labels.dims)
        ctx.set(result, labels if fits else Labels.none(result.dim()))

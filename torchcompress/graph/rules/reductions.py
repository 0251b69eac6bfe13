"""Rules for reductions, softmax and running sums: what is gone is left out of a dimension."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from torchcompress.graph.events import Mask
from torchcompress.graph.labels import Labels
from torchcompress.graph.rules.registry import Args, Context, Kwargs, Rule, argument, rule


def _reduction(position: int, *, exact: bool) -> Rule:
    """Returns the rule of a reduction whose dimensions are its argument number `position`."""

    def apply(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
        dims = _dims(args[0], argument(args, kwargs, position, "dim"))
        _reduce(ctx, args[0], dims, out, exact=exact)

    return apply


def _dims(x: Tensor, named: Any) -> set[int]:
    """Returns the dimensions that are reduced; none named means all."""
    if isinstance(named, int) and not isinstance(named, bool):
        named = [named]
    every = range(x.dim())
    return {every[dim] for dim in named} if isinstance(named, Iterable) and x.dim() else set(every)


def _reduce(ctx: Context, x: Tensor, dims: set[int], out: Any, *, exact: bool) -> None:
    labels = ctx.labels(x)
    dims = dims or set(range(x.dim()))
    whole = [(dim, vector) for dim in sorted(dims) if (vector := labels.dims[dim]) is not None]
    ctx.selection(
        [Mask(0, dim, vector) for dim, vector in whole],
        [],
        inexact=[] if exact else [vector for _, vector in whole],
    )
    kept = tuple(None if d in dims else vector for d, vector in enumerate(labels.dims))
    left = tuple(vector for d, vector in enumerate(labels.dims) if d not in dims)
    for result in out if isinstance(out, tuple) else (out,):
        ctx.set(result, Labels(kept if result.dim() == x.dim() else left))


rule("aten.sum", "aten.nansum", "aten.any", "aten.count_nonzero")(_reduction(1, exact=True))
rule("aten.mean", "aten.amax", "aten.amin", "aten.max", "aten.min", "aten.aminmax", "aten.var",
     "aten.std", "aten.var_mean", "aten.std_mean", "aten.prod", "aten.all", "aten.logsumexp",
     "aten.median", "aten.nanmedian")(_reduction(1, exact=False))  # fmt: skip


@rule("aten.norm", "aten.linalg_vector_norm")
def vector_norm(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """The norm of an order above 0 is the same without zeros."""
    order = argument(args, kwargs, 1, "ord", 2)
    dims = _dims(args[0], argument(args, kwargs, 2, "dim"))
    _reduce(ctx, args[0], dims, out, exact=order is None or float(order) >= 0)


@rule("aten.argmax", "aten.argmin")
def search(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """The result numbers the indices of a dimension, so that they must all stay."""
    labels = ctx.labels(args[0])
    dims = _dims(args[0], argument(args, kwargs, 1, "dim"))
    for dim in dims:
        ctx.couplings.freeze(labels.dims[dim], "is numbered by the result of a search")
    _reduce(ctx, args[0], dims, out, exact=True)


def _along(*, exact: bool) -> Rule:
    """Returns the rule of an operation along one dimension whose results have the same shape."""

    def apply(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
        labels, dim = ctx.labels(args[0]), argument(args, kwargs, 1, "dim")
        results = out if isinstance(out, tuple) else (out,)
        vector = labels.at(dim)
        if vector is not None:
            dim %= args[0].dim()
            writes = [Mask(position, dim, vector) for position in range(len(results))]
            ctx.selection([Mask(0, dim, vector)], writes, inexact=[] if exact else [vector])
        for result in results:
            ctx.set(result, labels)

    return apply


rule("aten.cumsum")(_along(exact=True))
rule("aten._softmax", "aten._log_softmax", "aten._safe_softmax", "aten.cumprod",
     "aten.logcumsumexp")(_along(exact=False))  # fmt: skip

"""Rules for fused attention."""

from typing import Any

from torch import Tensor, nn

from torchcompress.graph.events import Mask
from torchcompress.graph.labels import Labels
from torchcompress.graph.rules.contraction import prefer_axis
from torchcompress.graph.rules.meeting import met
from torchcompress.graph.rules.registry import Args, Context, Kwargs, rule


@rule("aten._scaled_dot_product_flash_attention_for_cpu",
      "aten._scaled_dot_product_flash_attention",
      "aten._scaled_dot_product_efficient_attention", "aten._scaled_dot_product_cudnn_attention",
      "aten._scaled_dot_product_fused_attention_overrideable")  # fmt: skip
def attention(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """Queries and keys are summed over; values pass on; heads go through.

    The dimensions inside a head go from queries, keys and values alike, since the kernel wants
    them equally long. A scale that the kernel derives from their number changes with it.
    """
    q, k, v = args[:3]
    mask = next((t for t in (*args[3:], kwargs.get("attn_mask")) if isinstance(t, Tensor)), None)
    batch, heads = (met(ctx, [(q, d), (k, d), (v, d), *_mask(mask, d)]) for d in (0, 1))
    queries = met(ctx, [(q, 2), *_mask(mask, 2)])
    keys = met(ctx, [(k, 2), (v, 2), *_mask(mask, 3)])
    inner = met(ctx, [(q, 3), (k, 3), (v, 3)])
    ctx.couplings.freeze(keys, "is a position that attention sums over")
    if heads is not None:
        prefer_axis(ctx, heads, [inner])
    summed = [] if inner is None else [Mask(0, 3, inner)]
    axes = zip((*q.shape, k.shape[2]), (batch, heads, queries, inner, keys), strict=True)
    for space in [list(axes)] * 2:  # The scores, then the sum of the values.
        ctx.contraction(None, out[0], space, summed, groups=heads)
    derived = kwargs.get("scale") is None and type(ctx.module) is not nn.MultiheadAttention
    if inner is not None and derived:  # Torch's own module keeps its scale once it is pruned.
        ctx.selection([Mask(place, 3, inner) for place in range(3)], [Mask(0, 3, inner)])
    ctx.set(out[0], Labels((batch, heads, queries, inner)))
    for result in out[1:]:
        if isinstance(result, Tensor):
            shared = (batch, heads, queries) if result.shape == q.shape[:3] else ()
            ctx.set(result, Labels(shared) if shared else Labels.none(result.dim()))


def _mask(mask: Tensor | None, dim: int) -> list[tuple[Tensor, int]]:
    """Returns a mask with its dimension that meets dimension `dim` of the scores."""
    own = -1 if mask is None else dim + mask.dim() - 4
    return [] if mask is None or own < 0 else [(mask, own)]

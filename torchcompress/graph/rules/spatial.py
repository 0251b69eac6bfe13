"""Rules for pooling and resizing over positions."""

from typing import Any

from torchcompress.graph.labels import Labels
from torchcompress.graph.rules.registry import Context, rule

Args = tuple[Any, ...]
Kwargs = dict[str, Any]


def _over_positions(spatial: int) -> Any:
    def apply(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
        labels = ctx.labels(args[0])
        for vector in labels.dims[-spatial:]:
            ctx.couplings.freeze(vector, "is a dimension that pooling or resizing changes")
        kept = Labels((*labels.dims[:-spatial], *(None for _ in range(spatial))), labels.neutral)
        for result in out if isinstance(out, tuple) else (out,):
            ctx.set(result, kept)

    return apply


rule("aten.max_pool2d_with_indices", "aten.avg_pool2d", "aten._adaptive_avg_pool2d",
     "aten.adaptive_avg_pool2d", "aten.adaptive_max_pool2d", "aten.upsample_nearest2d",
     "aten.upsample_bilinear2d", "aten.upsample_bicubic2d", "aten.reflection_pad2d",
     "aten.replication_pad2d")(_over_positions(2))  # fmt: skip

"""Rules for operations over positions: pooling, resizing, padding, sampling and regions."""

from typing import Any

from torchcompress.graph.labels import Labels
from torchcompress.graph.rules.meeting import freeze_all, freeze_dims, met, set_results
from torchcompress.graph.rules.registry import Args, Context, Kwargs, Rule, rule

OVER_POSITIONS = {
    1: ("aten.avg_pool1d", "aten.adaptive_avg_pool1d", "aten.adaptive_max_pool1d",
        "aten.upsample_nearest1d", "aten._upsample_nearest_exact1d", "aten.upsample_linear1d",
        "aten.reflection_pad1d", "aten.replication_pad1d"),
    2: ("aten.max_pool2d_with_indices", "aten.avg_pool2d", "aten._adaptive_avg_pool2d",
        "aten.adaptive_avg_pool2d", "aten.adaptive_max_pool2d", "aten.upsample_nearest2d",
        "aten._upsample_nearest_exact2d", "aten.upsample_bilinear2d", "aten.upsample_bicubic2d",
        "aten._upsample_bilinear2d_aa", "aten._upsample_bicubic2d_aa", "aten.reflection_pad2d",
        "aten.replication_pad2d"),
    3: ("aten.max_pool3d_with_indices", "aten.avg_pool3d", "aten._adaptive_avg_pool3d",
        "aten.adaptive_avg_pool3d", "aten.adaptive_max_pool3d", "aten.upsample_nearest3d",
        "aten._upsample_nearest_exact3d", "aten.upsample_trilinear3d", "aten.reflection_pad3d",
        "aten.replication_pad3d"),
}  # fmt: skip
"""Operations that keep all but the last dimensions, by how many these are."""


def _over_positions(spatial: int) -> Rule:
    def apply(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
        labels, rank = ctx.labels(args[0]), args[0].dim()
        positions = range(rank - spatial, rank)
        freeze_dims(ctx, args[0], positions, "is a dimension that pooling or resizing changes")
        kept = (*labels.dims[:-spatial], *(None for _ in positions))
        set_results(ctx, out, Labels(kept, labels.neutral))

    return apply


for _spatial, _operations in OVER_POSITIONS.items():
    rule(*_operations)(_over_positions(_spatial))


@rule("aten.max_unpool2d", "aten.max_unpool3d")
def max_unpool(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """Values go back to where a max-pool took them from; the indices go along with them."""
    x, indices = args[:2]
    spatial = len(args[2])
    positions = range(x.dim() - spatial, x.dim())
    for tensor in (x, indices):
        freeze_dims(ctx, tensor, positions, "is a dimension that unpooling changes")
    kept = [met(ctx, [(x, dim), (indices, dim)]) for dim in range(x.dim() - spatial)]
    ctx.set(out, Labels((*kept, *(None for _ in positions))))


@rule("aten.grid_sampler_2d", "aten.grid_sampler_3d", "aten._grid_sampler_2d_cpu_fallback",
      "aten.cudnn_grid_sampler")  # fmt: skip
def grid_sampler(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """Each image is sampled where its own grid says; channels pass."""
    x, grid = args[:2]
    freeze_dims(ctx, x, [d for d in range(x.dim()) if d != 1], "is a dimension that is sampled")
    freeze_all(ctx, grid, "says where to sample")
    ctx.set(out, Labels((None, ctx.labels(x).dims[1], *(None for _ in out.shape[2:]))))


@rule("aten.affine_grid_generator")
def affine_grid(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """A sampling grid is made of matrices whose every number has its own meaning."""
    freeze_all(ctx, args[0], "says where to sample")
    ctx.set(out, Labels.none(out.dim()))


@rule("torchvision.roi_align", "torchvision.roi_pool")
def region(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """Regions are cut out of feature maps; channels pass."""
    x, boxes = args[:2]
    freeze_dims(ctx, x, (0, 2, 3), "is a dimension that regions are cut from")
    freeze_all(ctx, boxes, "says where regions are")
    set_results(ctx, out, Labels((None, ctx.labels(x).dims[1], None, None)))

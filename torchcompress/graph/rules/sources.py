"""Rules for tensors that are made from a shape, from numbers or at random."""

from typing import Any

from torchcompress.graph.labels import Labels
from torchcompress.graph.rules.meeting import set_results
from torchcompress.graph.rules.registry import Args, Context, Kwargs, rule


@rule("aten.empty", "aten.zeros", "aten.ones", "aten.full", "aten.empty_like", "aten.zeros_like",
      "aten.ones_like", "aten.full_like", "aten.new_empty", "aten.new_zeros", "aten.new_ones",
      "aten.new_full", "aten.empty_strided", "aten.new_empty_strided", "aten.empty_permuted",
      "aten.scalar_tensor")  # fmt: skip
def uniform(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """A uniform fill made from a shape couples to nothing."""
    ctx.set(out, Labels.none(out.dim(), neutral=True))


@rule("aten.arange", "aten.linspace", "aten.logspace", "aten.eye", "aten.tril_indices",
      "aten.triu_indices", "aten.hann_window", "aten.hamming_window", "aten.rand", "aten.randn",
      "aten.randint", "aten.randperm", "aten.rand_like", "aten.randn_like", "aten.randint_like",
      "aten.normal_", "aten.uniform_", "aten.bernoulli_", "aten.random_", "aten.exponential_",
      "aten.cauchy_", "aten.log_normal_", "aten.geometric_")  # fmt: skip
def constant(ctx: Context, args: Args, kwargs: Kwargs, out: Any) -> None:
    """Numbers that vary along the tensor and belong to no channel."""
    set_results(ctx, out, Labels(()))

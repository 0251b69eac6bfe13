"""What each ATen operation does to labels; importing this package fills the table."""

from torchcompress.graph.rules import contraction, movement, norms, pointwise, reductions, spatial
from torchcompress.graph.rules.registry import Context, find_rule, rule

__all__ = [
    "Context",
    "contraction",
    "find_rule",
    "movement",
    "norms",
    "pointwise",
    "reductions",
    "rule",
    "spatial",
]

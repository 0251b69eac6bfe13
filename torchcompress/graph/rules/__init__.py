"""What each ATen operation does to labels; importing this package fills the table."""

from torchcompress.graph.rules import (
    attention,
    contraction,
    indexing,
    movement,
    norms,
    pointwise,
    rearranging,
    reductions,
    sources,
    spatial,
    whole,
)
from torchcompress.graph.rules.registry import FIXED, Context, apply_rule, find_rule, rule

__all__ = [
    "FIXED",
    "Context",
    "apply_rule",
    "attention",
    "contraction",
    "find_rule",
    "indexing",
    "movement",
    "norms",
    "pointwise",
    "rearranging",
    "reductions",
    "rule",
    "sources",
    "spatial",
    "whole",
]

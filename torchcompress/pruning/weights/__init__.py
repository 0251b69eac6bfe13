"""Pruning of single weights: zeros in the weights themselves, none of them renamed."""

from torchcompress.pruning.weights.dynamic import RigL
from torchcompress.pruning.weights.hold import HoldZeros
from torchcompress.pruning.weights.pattern import NM, Block, Pattern, parse_pattern
from torchcompress.pruning.weights.plan import SparsityPlan
from torchcompress.pruning.weights.pruner import MagnitudePruner
from torchcompress.pruning.weights.selection import Selection, Weight, prunable_weights

__all__ = [
    "NM",
    "Block",
    "HoldZeros",
    "MagnitudePruner",
    "Pattern",
    "RigL",
    "Selection",
    "SparsityPlan",
    "Weight",
    "parse_pattern",
    "prunable_weights",
]

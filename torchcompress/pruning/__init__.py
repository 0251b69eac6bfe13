"""Pruning: channels and weights that go, as plans."""

from torchcompress.pruning import attention as attention
from torchcompress.pruning import heads as heads
from torchcompress.pruning import torchvision_models as torchvision_models
from torchcompress.pruning.adapters import adapt
from torchcompress.pruning.channels import plan_channels, prune_channels
from torchcompress.pruning.dead_channels import remove_dead_channels
from torchcompress.pruning.mends import Remaining, mend
from torchcompress.pruning.plan import PruningPlan
from torchcompress.pruning.pruner import ChannelPruner
from torchcompress.pruning.regularizers import BNSparsity, GroupLasso, Growing
from torchcompress.pruning.schedules import Cubic, Iterative, OneShot
from torchcompress.pruning.sparsify import sparsify
from torchcompress.pruning.weights import HoldZeros, MagnitudePruner, RigL, SparsityPlan

__all__ = [
    "BNSparsity",
    "ChannelPruner",
    "Cubic",
    "GroupLasso",
    "Growing",
    "HoldZeros",
    "Iterative",
    "MagnitudePruner",
    "OneShot",
    "PruningPlan",
    "Remaining",
    "RigL",
    "SparsityPlan",
    "adapt",
    "mend",
    "plan_channels",
    "prune_channels",
    "sparsify",
    "remove_dead_channels",
]

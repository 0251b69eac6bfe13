"""Pruning: channels that go, as a plan that is proved before it is applied."""

from torchcompress.pruning.channels import plan_channels, prune_channels
from torchcompress.pruning.mends import Remaining, mend
from torchcompress.pruning.plan import PruningPlan

__all__ = ["PruningPlan", "Remaining", "mend", "plan_channels", "prune_channels"]

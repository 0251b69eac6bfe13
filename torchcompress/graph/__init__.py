"""What a model does: one traced run gives channel labels, coupled groups and costs."""

from torchcompress.graph.events import Mask
from torchcompress.graph.groups import Group, channel_groups
from torchcompress.graph.labels import Labels
from torchcompress.graph.macs import LayerCost, count_macs, layer_costs
from torchcompress.graph.record import Trace
from torchcompress.graph.rules import Context, rule
from torchcompress.graph.tracer import trace

__all__ = [
    "Context",
    "Group",
    "Labels",
    "LayerCost",
    "Mask",
    "Trace",
    "channel_groups",
    "count_macs",
    "layer_costs",
    "rule",
    "trace",
]

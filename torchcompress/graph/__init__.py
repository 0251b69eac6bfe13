"""What a model does: one traced run gives channel labels, coupled groups and costs."""

from torchcompress.graph.groups import Group, channel_groups
from torchcompress.graph.macs import LayerCost, count_macs, layer_costs
from torchcompress.graph.tracer import Trace, trace

__all__ = ["Group", "LayerCost", "Trace", "channel_groups", "count_macs", "layer_costs", "trace"]

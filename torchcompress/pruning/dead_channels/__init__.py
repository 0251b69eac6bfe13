"""Channels whose removal changes nothing: found, proved and deleted."""

from torchcompress.pruning.dead_channels.remove import remove_dead_channels

__all__ = ["remove_dead_channels"]

"""Attributes that count the heads of an attention of one's own, by the names in common use."""

from typing import Any

from torch import nn

from torchcompress.pruning.mends import Remaining, mend

HEADS = ("num_heads", "n_heads", "num_attention_heads", "n_head", "nhead", "heads")
WIDTHS = ("all_head_size", "attn_dim", "inner_dim", "embed_dim")
"""The width of all heads together; where it is that of something else the trial says so."""


@mend(nn.Module)
def _counted(module: nn.Module, remaining: Remaining) -> dict[str, Any]:
    if remaining.groups is None:
        return {}
    sizes = {name: getattr(module, name, None) for name in (*HEADS, *WIDTHS)}
    before = next((sizes[name] for name in HEADS if type(sizes[name]) is int), 0)
    if not before:
        return {}
    return {
        name: size * remaining.groups // before
        for name, size in sizes.items()
        if type(size) is int and size % before == 0
    }

"""What torchvision's transformers repeat of their sizes, and their attentions made independent."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models import VisionTransformer
from torchvision.models.maxvit import RelativePositionalMultiHeadAttention
from torchvision.models.optical_flow.raft import RAFT, CorrBlock, RecurrentBlock, UpdateBlock
from torchvision.models.swin_transformer import ShiftedWindowAttention, ShiftedWindowAttentionV2
from torchvision.models.video.mvit import MultiscaleAttention
from torchvision.models.video.swin_transformer import ShiftedWindowAttention3d

from torchcompress.pruning.adapters import adapt
from torchcompress.pruning.mends import Remaining, mend


@mend(VisionTransformer)
def _vision_transformer(module: VisionTransformer, remaining: Remaining) -> dict[str, Any]:
    return {"hidden_dim": remaining.shapes["class_token"][-1]}


@mend(MultiscaleAttention)
def _multiscale(module: MultiscaleAttention, remaining: Remaining) -> dict[str, Any]:
    heads = module.num_heads if remaining.groups is None else remaining.groups
    width, embed = remaining.shapes["qkv.weight"]
    sizes = {"embed_dim": embed, "output_dim": width // 3}
    return {**sizes, "num_heads": heads, "head_dim": width // 3 // heads}


@mend(ShiftedWindowAttention, ShiftedWindowAttention3d)
def _windowed(module: ShiftedWindowAttention, remaining: Remaining) -> dict[str, Any]:
    return {"num_heads": module.num_heads if remaining.groups is None else remaining.groups}


@mend(RelativePositionalMultiHeadAttention)
def _relative(module: RelativePositionalMultiHeadAttention, remaining: Remaining) -> dict[str, Any]:
    heads = module.n_heads if remaining.groups is None else remaining.groups
    return {"n_heads": heads, "head_dim": remaining.shapes["merge.weight"][1] // heads}


@mend(RecurrentBlock)
def _recurrent(module: RecurrentBlock, remaining: Remaining) -> dict[str, Any]:
    return {"hidden_size": remaining.shapes["convgru1.convz.weight"][0]}


@mend(UpdateBlock)
def _update(module: UpdateBlock, remaining: Remaining) -> dict[str, Any]:
    return {"hidden_state_size": remaining.shapes["flow_head.conv1.weight"][1]}


class PrunedCorrBlock(CorrBlock):
    """RAFT's correlations, divided by the root of the width that its features had at first."""

    width: int

    def _compute_corr_volume(self, fmap1: Tensor, fmap2: Tensor) -> Tensor:
        left = fmap1.shape[1]
        return super()._compute_corr_volume(fmap1, fmap2) * math.sqrt(left / self.width)


class PrunedWindowAttention(ShiftedWindowAttention):
    """Swin's attention with any number of heads of any width, whatever its input's width."""

    scale: float

    def forward(self, x: Tensor) -> Tensor:
        """Attends inside shifted windows of x, (N, H, W, C)."""
        return _attend_in_flat_windows(self, x)


class PrunedWindowAttentionV2(ShiftedWindowAttentionV2):
    """SwinV2's attention with any number of heads of any width, whatever its input's width."""

    def forward(self, x: Tensor) -> Tensor:
        """Attends inside shifted windows of x, (N, H, W, C)."""
        return _attend_in_flat_windows(self, x)


class PrunedWindowAttention3d(ShiftedWindowAttention3d):
    """Video Swin's attention with any number of heads of any width, whatever its input's width."""

    scale: float

    def forward(self, x: Tensor) -> Tensor:
        """Attends inside shifted windows of x, (N, T, H, W, C)."""
        window, shift = _fitting(x, self.window_size, self.shift_size)
        return _attend_in_windows(self, x, window, shift, self.get_relative_position_bias(window))


class PrunedRelativeAttention(RelativePositionalMultiHeadAttention):
    """MaxViT's attention with any number of heads of any width, whatever its input's width."""

    def forward(self, x: Tensor) -> Tensor:
        """Attends inside the groups of x, (N, groups, positions, C)."""
        q, k, v = (
            part.unflatten(-1, (self.n_heads, -1)).transpose(2, 3)
            for part in self.to_qkv(x).chunk(3, -1)
        )
        scores = q @ (k * self.scale_factor).transpose(-2, -1)
        weights = F.softmax(scores + self.get_relative_positional_bias(), -1)
        return self.merge((weights @ v).transpose(2, 3).flatten(3))


@adapt(RAFT)
def _adapt_raft(module: Any) -> None:
    if type(module.corr_block) is CorrBlock:
        module.corr_block.width = module.feature_encoder.conv.out_channels
        module.corr_block.__class__ = PrunedCorrBlock


@adapt(ShiftedWindowAttention)
def _adapt_windowed(module: Any) -> None:
    module.scale = _scale(module)
    module.__class__ = PrunedWindowAttention


@adapt(ShiftedWindowAttentionV2)
def _adapt_windowed_v2(module: Any) -> None:
    module.__class__ = PrunedWindowAttentionV2


@adapt(ShiftedWindowAttention3d)
def _adapt_windowed_3d(module: Any) -> None:
    module.scale = _scale(module)
    module.__class__ = PrunedWindowAttention3d


@adapt(RelativePositionalMultiHeadAttention)
def _adapt_relative(module: Any) -> None:
    module.__class__ = PrunedRelativeAttention


def _scale(module: ShiftedWindowAttention) -> float:
    return (module.proj.in_features // module.num_heads) ** -0.5


def _fitting(x: Tensor, window: Sequence[int], shift: Sequence[int]) -> tuple[list[int], list[int]]:
    """Returns windows no larger than the input, which is not shifted where one covers it."""
    sizes = list(zip(x.shape[1:-1], window, shift, strict=True))
    return [min(n, w) for n, w, _ in sizes], [0 if n <= w else s for n, w, s in sizes]


def _attend_in_flat_windows(module: Any, x: Tensor) -> Tensor:
    _, shift = _fitting(x, module.window_size, module.shift_size)
    bias = module.get_relative_position_bias()
    return _attend_in_windows(module, x, module.window_size, shift, bias)


def _attend_in_windows(
    module: Any, x: Tensor, window: Sequence[int], shift: Sequence[int], bias: Tensor
) -> Tensor:
    """Attends inside windows of x, (N, *sizes, C), after a cyclic shift (Liu et al. 2021)."""
    sizes, places = x.shape[1:-1], list(range(1, x.dim() - 1))
    padding = [-size % w for size, w in zip(sizes, window, strict=True)]
    x = F.pad(x, [0, 0, *(end for pad in reversed(padding) for end in (0, pad))])
    padded = x.shape[1:-1]
    x = torch.roll(x, [-s for s in shift], places) if any(shift) else x
    windows = _partition(x, window)
    counts = [size // w for size, w in zip(padded, window, strict=True)]
    q, k, v = (
        part.unflatten(-1, (module.num_heads, -1)).transpose(1, 2)
        for part in _qkv(module, windows).chunk(3, -1)
    )
    if hasattr(module, "logit_scale"):  # Cosine attention (Liu et al. 2022).
        scale = module.logit_scale.clamp(max=math.log(100.0)).exp()
        scores = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1) * scale
    else:
        scores = (q * module.scale) @ k.transpose(-2, -1)
    scores = scores + bias
    if any(shift):
        mask = _shift_mask(padded, window, shift, x)
        scores = (scores.unflatten(0, (-1, len(mask))) + mask.unsqueeze(1)).flatten(0, 1)
    weights = F.dropout(F.softmax(scores, -1), module.attention_dropout, module.training)
    out = module.proj((weights @ v).transpose(1, 2).flatten(2))
    out = F.dropout(out, module.dropout, module.training)
    out = out.view(-1, *counts, *window, out.shape[-1])
    rank = len(window)
    order = [axis for place in range(1, rank + 1) for axis in (place, place + rank)]
    out = out.permute(0, *order, 2 * rank + 1).reshape(-1, *padded, out.shape[-1])
    out = torch.roll(out, list(shift), places) if any(shift) else out
    return out[(slice(None), *(slice(size) for size in sizes))].contiguous()


def _qkv(module: Any, windows: Tensor) -> Tensor:
    bias = module.qkv.bias
    if bias is not None and hasattr(module, "logit_scale"):
        queries, keys, values = bias.chunk(3)
        bias = torch.cat([queries, torch.zeros_like(keys), values])
    return F.linear(windows, module.qkv.weight, bias)


def _partition(x: Tensor, window: Sequence[int]) -> Tensor:
    """Returns the windows of x, (N, *sizes, C), as (N * windows, positions, C)."""
    parts = [n for size, w in zip(x.shape[1:-1], window, strict=True) for n in (size // w, w)]
    rank = len(window)
    cells = x.reshape(x.shape[0], *parts, x.shape[-1])
    order = [*range(1, 2 * rank, 2), *range(2, 2 * rank + 1, 2)]
    return cells.permute(0, *order, 2 * rank + 1).reshape(-1, math.prod(window), x.shape[-1])


def _shift_mask(
    padded: Sequence[int], window: Sequence[int], shift: Sequence[int], like: Tensor
) -> Tensor:
    """Returns what keeps apart positions that a cyclic shift brought into one window.

    Its shape is (windows, positions, positions).
    """
    region = like.new_zeros(tuple(padded))
    for axis, (size, w, s) in enumerate(zip(padded, window, shift, strict=True)):
        if s:
            steps = like.new_zeros(size)
            steps[size - w : size - s], steps[size - s :] = 1, 2
            region = 3 * region + steps.view([-1 if d == axis else 1 for d in range(len(padded))])
    flat = _partition(region[None, ..., None], window).squeeze(-1)
    apart = flat.unsqueeze(1) != flat.unsqueeze(2)
    return like.new_zeros(apart.shape).masked_fill(apart, -100.0)

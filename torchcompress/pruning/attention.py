"""Multi-head attention whose heads are no longer tied to the width of its input."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torchcompress.pruning.adapters import adapt
from torchcompress.pruning.mends import Remaining, mend


class PrunedMultiheadAttention(nn.MultiheadAttention):
    """`nn.MultiheadAttention` with any number of heads of any width, whatever its input's width.

    The parameters and the arguments of the forward pass are those of `nn.MultiheadAttention`.

    Attributes:
        scale: What the scores are multiplied by: that of the width that heads had at first.
    """

    scale: float

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attends as `nn.MultiheadAttention` does.

        Args:
            query: (L, N, E), (N, L, E) where `batch_first`, or (L, E), as are the next two with
                S for L and `kdim` and `vdim` for E.
            key: What is compared with.
            value: What is summed.
            key_padding_mask: (N, S) or (S,); true, or added to the scores.
            need_weights: Return the weights too.
            attn_mask: (L, S), or (N * heads, L, S) with the heads that are left; true where a
                position is not attended to, or added to the scores.
            average_attn_weights: Average the weights over the heads.
            is_causal: `attn_mask` is causal.

        Returns:
            The output, shaped as `query`, and the weights, (N, L, S) or (N, heads, L, S), or None.
        """
        if is_causal and attn_mask is None:
            raise RuntimeError("is_causal is a hint about attn_mask, which is missing")
        batched = query.dim() == 3
        inputs = _batched(query, key, value, None if not batched else int(not self.batch_first))
        q, k, v = (t.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for t in self._in(*inputs))
        if self.bias_k is not None and self.bias_v is not None:
            k = torch.cat([k, self._one_more(self.bias_k, k)], 2)
            v = torch.cat([v, self._one_more(self.bias_v, v)], 2)
        if self.add_zero_attn:
            k, v = (torch.cat([t, torch.zeros_like(t[:, :, :1])], 2) for t in (k, v))
        mask = self._mask(attn_mask, key_padding_mask, q, k)
        dropout = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = (q * self.scale) @ k.transpose(-2, -1)
            weights = F.softmax(scores if mask is None else scores + mask, -1)
            weights = F.dropout(weights, dropout)
            out = weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
            weights = weights if batched else weights[0]
        else:
            out = F.scaled_dot_product_attention(q, k, v, mask, dropout, scale=self.scale)
        out = self.out_proj(out.transpose(1, 2).flatten(2))
        if not batched:
            return out[0], weights
        return out if self.batch_first else out.transpose(0, 1), weights

    def _in(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        """Returns queries, keys and values, each (N, length, heads * width)."""
        biases = [None] * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        if self.in_proj_weight is None:
            weights = [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight]
        elif query is key and key is value:
            return list(F.linear(query, self.in_proj_weight, self.in_proj_bias).chunk(3, -1))
        else:
            weights = self.in_proj_weight.chunk(3)
        inputs = (query, key, value)
        return [F.linear(x, w, b) for x, w, b in zip(inputs, weights, biases, strict=True)]

    def _one_more(self, bias: Tensor, like: Tensor) -> Tensor:
        heads = bias.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        return heads.expand(like.shape[0], -1, -1, -1)

    def _mask(
        self, attn_mask: Tensor | None, padding: Tensor | None, q: Tensor, k: Tensor
    ) -> Tensor | None:
        """Returns what is added to the scores, to be broadcast to (N, heads, L, S), or None."""
        added = None
        if attn_mask is not None:
            added = _additive(attn_mask, q)
            if attn_mask.dim() == 3:
                added = added.unflatten(0, (-1, self.num_heads))
        if padding is not None:
            own = _additive(padding, q).reshape(q.shape[0], 1, 1, -1)
            added = own if added is None else added + own
        if added is None:
            return None
        return F.pad(added, (0, k.shape[2] - added.shape[-1]))


def _batched(query: Tensor, key: Tensor, value: Tensor, dim: int | None) -> tuple[Tensor, ...]:
    """Returns the inputs with the batch, which is dimension `dim`, first; one tensor stays one."""
    moved: dict[int, Tensor] = {}
    for tensor in (query, key, value):
        moved[id(tensor)] = tensor.unsqueeze(0) if dim is None else tensor.movedim(dim, 0)
    return tuple(moved[id(tensor)] for tensor in (query, key, value))


def _additive(mask: Tensor, like: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        return mask.to(like.dtype)
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill(mask, -math.inf)


@adapt(nn.MultiheadAttention)
def _adapt(module: Any) -> None:
    module.scale = 1 / math.sqrt(module.head_dim)
    module._qkv_same_embed_dim = False  # Keeps torch's fused encoder layer from reading the sizes.
    module.__class__ = PrunedMultiheadAttention


@adapt(nn.TransformerEncoder)
def _unpacked(module: nn.TransformerEncoder) -> None:
    module.use_nested_tensor = False  # Only torch's fused encoder layer takes packed sequences.


@mend(nn.MultiheadAttention)
def _sizes(module: nn.MultiheadAttention, remaining: Remaining) -> dict[str, Any]:
    shapes = remaining.shapes
    heads = module.num_heads if remaining.groups is None else remaining.groups
    width, embed = shapes["out_proj.weight"][1], shapes["out_proj.weight"][0]
    packed = shapes.get("in_proj_weight")
    sources = [packed] * 2 if packed else [shapes[f"{name}_proj_weight"] for name in "kv"]
    return {
        "embed_dim": packed[1] if packed else embed,
        "num_heads": heads,
        "head_dim": width // heads,
        "kdim": sources[0][1],
        "vdim": sources[1][1],
    }


@mend(nn.Transformer)
def _width(module: nn.Transformer, remaining: Remaining) -> dict[str, Any]:
    return {"d_model": remaining.input[-1]} if remaining.input else {}

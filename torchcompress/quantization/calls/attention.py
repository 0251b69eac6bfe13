"""Attention: `nn.MultiheadAttention` as its projections, and the function."""

from typing import Any

import torch.nn.functional as F
from torch import nn

from torchcompress.quantization.calls.call import Call, Handler
from torchcompress.quantization.calls.layers import linear
from torchcompress.quantization.sources import Source
from torchcompress.quantization.tracing import Opaque, Tracing, Value


def _scaled_dot_product_attention(
    state: Tracing,
    query: Value,
    key: Value,
    value: Value,
    attn_mask: Value | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Value:
    if enable_gqa or dropout_p > 0:
        raise state.unsupported("attention with shared heads, or with dropout in eval mode")
    mask = [] if attn_mask is None else [attn_mask]
    return state.emit(
        "scaled_dot_product_attention", query, key, value, *mask, scale=scale, causal=is_causal
    )


def _multihead(
    state: Tracing,
    path: str,
    module: nn.MultiheadAttention,
    query: Value,
    key: Value,
    value: Value,
    key_padding_mask: Any = None,
    need_weights: bool = True,
    attn_mask: Value | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Value, Opaque | None]:
    if state.training and module.dropout > 0:
        raise state.unsupported("attention that drops weights in training", "set its dropout to 0")
    if key_padding_mask is not None:
        raise state.unsupported("a key padding mask")
    if module.bias_k is not None or module.add_zero_attn:
        raise state.unsupported("attention with added keys and values")
    if is_causal and attn_mask is None:
        raise state.unsupported("causal attention without a mask")
    tokens = [query, key, value]
    if not module.batch_first:
        turned = {x: state.emit("transpose", x, dims=[0, 1]) for x in dict.fromkeys(tokens)}
        tokens = [turned[x] for x in tokens]
    q, k, v = _projections(state, path, module, *tokens)
    mask = [] if attn_mask is None else [attn_mask]
    y = state.emit("attention", q, k, v, *mask, heads=module.num_heads, scale=None)
    y = _projection(state, path, "out_proj", _out_source(path, module), y)
    if not module.batch_first:
        y = state.emit("transpose", y, dims=[0, 1])
    return y, Opaque("attention weights") if need_weights else None


def _out_source(path: str, module: nn.MultiheadAttention) -> Source:
    projection = module.out_proj
    bias = None if projection.bias is None else f"{path}.out_proj.bias"
    return Source(tuple(projection.weight.shape), f"{path}.out_proj.weight", bias)


def _projections(
    state: Tracing, path: str, module: nn.MultiheadAttention, q: Value, k: Value, v: Value
) -> list[Value]:
    """Appends the input projections: one for all three where they read the same tokens."""
    width, packed = module.embed_dim, module.in_proj_weight
    bias = None if module.in_proj_bias is None else f"{path}.in_proj_bias"
    if packed is not None and q == k == v:
        source = Source(tuple(packed.shape), f"{path}.in_proj_weight", bias)
        return thirds(state, _projection(state, path, "in_proj", source, q))
    made: list[Value] = []
    for place, (letter, x) in enumerate(zip("qkv", (q, k, v), strict=True)):
        rows = (place * width, (place + 1) * width)
        if packed is not None:
            source = Source(tuple(packed.shape), f"{path}.in_proj_weight", bias, rows=rows)
        else:
            name = f"{letter}_proj_weight"
            source = Source(tuple(getattr(module, name).shape), f"{path}.{name}")
            if bias is not None:
                raise state.unsupported("attention with other key or value widths and a bias")
        made.append(_projection(state, path, f"{letter}_proj", source, x))
    return made


def thirds(state: Tracing, qkv: Value) -> list[Value]:
    """Appends queries, keys and values out of one projection."""
    return [state.emit("chunk", qkv, chunks=3, dim=-1, index=index) for index in range(3)]


def _projection(state: Tracing, path: str, part: str, source: Source, x: Value) -> Value:
    call = state.name
    state.begin(f"{path}.{part}")
    y = linear(state, x, f"{path}.{part}", source)
    state.name = call
    return y


FUNCTIONS: list[Call] = [
    Call(_scaled_dot_product_attention, (F.scaled_dot_product_attention,)),
]
MODULES_WITH_ARGUMENTS: dict[type[nn.Module], Handler] = {nn.MultiheadAttention: _multihead}

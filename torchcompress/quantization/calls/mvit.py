"""Torchvision's MViT, parts of which are hidden from a symbolic trace."""

from typing import Any

from torchvision.models.video import mvit

from torchcompress.quantization.calls.call import Call
from torchcompress.quantization.tracing import Integer, Tracing, Value


def _unsqueeze(state: Tracing, x: Value, target_dim: int, expand_dim: int) -> tuple[Value, Integer]:
    made = state.emit("unsqueeze_to_rank", x, rank=target_dim, dim=expand_dim)
    return made, state.emit_integer("rank", x)


def _squeeze(
    state: Tracing, x: Value, target_dim: int, expand_dim: int, tensor_dim: Integer
) -> Value:
    return state.emit("squeeze_to_rank", x, tensor_dim, rank=target_dim, dim=expand_dim)


def _add_rel_pos(
    state: Tracing,
    attn: Value,
    q: Value,
    q_thw: Any,
    k_thw: Any,
    rel_pos_h: Value,
    rel_pos_w: Value,
    rel_pos_t: Value,
) -> Value:
    tables = (rel_pos_h, rel_pos_w, rel_pos_t)
    sizes = [*q_thw, *k_thw]
    bias = state.emit_sized("relative_positions", q, *tables, sizes=sizes, into="sizes")
    return state.emit("add", attn, bias)


def _add_shortcut(
    state: Tracing, x: Value, shortcut: Value, residual_with_cls_embed: bool
) -> Value:
    if residual_with_cls_embed:
        return state.emit("add", x, shortcut)
    first, rest, other = (
        state.emit("slice", of, dim=2, start=start, stop=stop, step=1)
        for of, start, stop in ((x, 0, 1), (x, 1, None), (shortcut, 1, None))
    )
    return state.emit("cat", first, state.emit("add", rest, other), dim=2)


FUNCTIONS: list[Call] = [
    Call(_unsqueeze, (mvit._unsqueeze,)),
    Call(_squeeze, (mvit._squeeze,), (Integer,)),
    Call(_add_rel_pos, (), (Integer,), inplace=(mvit._add_rel_pos,)),
    Call(_add_shortcut, (), inplace=(mvit._add_shortcut,)),
]

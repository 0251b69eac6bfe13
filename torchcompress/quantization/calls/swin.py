"""Torchvision's Swin transformers, whose window attention is hidden from a symbolic trace."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torchvision.models import swin_transformer as swin
from torchvision.models.video import swin_transformer as video_swin

from torchcompress.quantization.calls.attention import thirds
from torchcompress.quantization.calls.call import Call
from torchcompress.quantization.calls.layers import linear, parameters
from torchcompress.quantization.tracing import Integer, Parameter, Tracing, Value

_LARGEST_LOGIT_SCALE = math.log(100.0)


@dataclass(frozen=True)
class FittedWindow:
    """A window that shrinks to the map, for a map whose sizes are known when the program runs."""

    window: tuple[int, ...]
    sizes: tuple[Any, ...]


def _patch_merging(state: Tracing, x: Value) -> Value:
    return state.emit("patch_merging", x)


def _position_bias(
    state: Tracing,
    relative_position_bias_table: Any,
    relative_position_index: Any,
    window_size: Any,
) -> Value:
    table, index = (
        state.constant(p) if isinstance(p, Parameter) else p
        for p in (relative_position_bias_table, relative_position_index)
    )
    fit = isinstance(window_size, FittedWindow)
    window = window_size.window if fit else window_size
    sizes = window_size.sizes if fit else ()
    settings = {"window": list(window), "shift": [0] * len(window), "fit": fit}
    return state.emit("window_bias", table, index, *sizes, **settings)


def _window_attention(
    state: Tracing,
    input: Value,
    qkv_weight: Any,
    proj_weight: Any,
    relative_position_bias: Value,
    window_size: Any,
    num_heads: int,
    shift_size: Sequence[int],
    attention_dropout: float = 0.0,
    dropout: float = 0.0,
    qkv_bias: Any = None,
    proj_bias: Any = None,
    logit_scale: Any = None,
    training: bool = True,
) -> Value:
    if training and attention_dropout + dropout > 0:
        raise state.unsupported("dropout that stays on in eval mode")
    fit = isinstance(window_size, FittedWindow)
    window = list(window_size.window if fit else window_size)
    settings = {"window": window, "shift": list(shift_size), "fit": fit}
    sizes = [state.size(input, dim) for dim in range(1, len(window) + 1)]
    bias = state.emit("window_mask", relative_position_bias, *sizes, **settings)
    x = state.emit("window_partition", input, **settings)
    q, k, v = thirds(state, _projection(state, x, qkv_weight, qkv_bias, logit_scale is not None))
    if logit_scale is None:
        x = state.emit("attention", q, k, v, bias, heads=num_heads, scale=None)
    else:
        gain = state.constant(logit_scale)
        gain = state.emit("clamp", gain, low=None, high=_LARGEST_LOGIT_SCALE)
        gain = state.emit("unary", gain, name="exp")
        x = state.emit("cosine_attention", q, k, v, gain, bias, heads=num_heads)
    x = _projection(state, x, proj_weight, proj_bias, False)
    return state.emit("window_merge", x, *sizes, **settings)


def _projection(state: Tracing, x: Value, weight: Any, bias: Any, without_key_bias: bool) -> Value:
    path, source = parameters(state, weight, bias)
    if without_key_bias and bias is not None:
        third = source.channels // 3
        source = replace(source, zeroed=(third, 2 * third))
    call = state.name
    state.begin(path)
    y = linear(state, x, path, source)
    state.name = call
    return y


def _window_attention_3d(
    state: Tracing,
    input: Value,
    qkv_weight: Any,
    proj_weight: Any,
    relative_position_bias: Value,
    window_size: Any,
    num_heads: int,
    shift_size: Sequence[int],
    attention_dropout: float = 0.0,
    dropout: float = 0.0,
    qkv_bias: Any = None,
    proj_bias: Any = None,
    training: bool = True,
) -> Value:
    return _window_attention(
        state,
        input,
        qkv_weight,
        proj_weight,
        relative_position_bias,
        window_size,
        num_heads,
        shift_size,
        attention_dropout,
        dropout,
        qkv_bias,
        proj_bias,
        training=training,
    )


def _fitted(
    state: Tracing, shift_size: Sequence[int], size_dhw: Sequence[Any], window_size: Sequence[int]
) -> tuple[FittedWindow, list[int]]:
    return FittedWindow(tuple(window_size), tuple(size_dhw)), list(shift_size)


def _pad_sizes(
    state: Tracing, size_dhw: Sequence[Any], patch_size: Sequence[int]
) -> tuple[Any, ...]:
    def missing(size: Any, patch: int) -> Any:
        if isinstance(size, int):
            return -size % patch
        negative = state.emit_integer("integer", size, operator="sub", left=0, right=None)
        return state.emit_integer("integer", negative, operator="mod", left=None, right=patch)

    return tuple(missing(size, n) for size, n in zip(size_dhw, patch_size, strict=True))


FUNCTIONS: list[Call] = [
    Call(_patch_merging, (swin._patch_merging_pad,)),
    Call(
        _position_bias,
        (swin._get_relative_position_bias, video_swin._get_relative_position_bias),
        (FittedWindow, Parameter),
    ),
    Call(_window_attention, (swin.shifted_window_attention,), (Parameter,)),
    Call(
        _window_attention_3d, (video_swin.shifted_window_attention_3d,), (Parameter, FittedWindow)
    ),
    Call(_fitted, (video_swin._get_window_and_shift_size,), (Integer,)),
    Call(_pad_sizes, (video_swin._compute_pad_size_3d,), (Integer,)),
]

"""Pooling and resizing."""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from torchcompress.quantization.calls.call import Call, Handler, sequence
from torchcompress.quantization.calls.movement import entries
from torchcompress.quantization.tracing import Integer, Shape, Tracing, Value


def _max_pool(
    state: Tracing,
    input: Value,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    dims: int,
) -> Value:
    if return_indices:
        raise state.unsupported("max pooling that returns indices")
    return state.emit(
        f"max_pool{dims}d",
        input,
        kernel_size=sequence(kernel_size, dims),
        stride=sequence(kernel_size if stride is None else stride, dims),
        padding=sequence(padding, dims),
        dilation=sequence(dilation, dims),
        ceil_mode=ceil_mode,
    )


def _avg_pool(
    state: Tracing,
    input: Value,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    dims: int,
) -> Value:
    if divisor_override is not None:
        raise state.unsupported("average pooling with a divisor of its own")
    return state.emit(
        f"avg_pool{dims}d",
        input,
        kernel_size=sequence(kernel_size, dims),
        stride=sequence(kernel_size if stride is None else stride, dims),
        padding=sequence(padding, dims),
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
    )


def _adaptive(
    state: Tracing,
    input: Value,
    output_size: Any,
    return_indices: bool = False,
    *,
    dims: int,
    kind: str,
) -> Value:
    size = sequence(output_size, dims)
    if return_indices or any(n is None for n in size):
        raise state.unsupported("adaptive pooling that keeps a size or returns indices")
    if size != [1] * dims:
        return state.emit(f"adaptive_{kind}_pool{dims}d", input, size=size)
    if kind == "avg" and dims == 2:
        return state.emit("global_avg_pool", input, keepdim=True)
    reduction = "mean" if kind == "avg" else "amax"
    return state.emit(reduction, input, dims=list(range(-dims, 0)), keepdim=True)


def interpolate(
    state: Tracing,
    input: Value,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Value:
    """Appends a resizing."""
    if recompute_scale_factor and scale_factor is not None:
        raise state.unsupported("interpolate that recomputes its factor")
    scale = None if scale_factor is None else [float(s) for s in sequence(scale_factor, 1)]
    sizes = [] if size is None else entries(state, (size,))
    nearest = mode in ("nearest", "nearest-exact")
    more = {} if nearest else {"align_corners": align_corners, "antialias": antialias}
    kind = "resize_nearest" if nearest else "interpolate"
    if size is None:
        return state.emit(kind, input, size=None, scale=scale, mode=mode, **more)
    return state.emit_sized(kind, input, sizes=sizes, into="size", scale=scale, mode=mode, **more)


def _upsample(state: Tracing, path: str, module: nn.Upsample, x: Value) -> Value:
    settings = (module.mode, module.align_corners, module.recompute_scale_factor)
    return interpolate(state, x, module.size, module.scale_factor, *settings)


def _max_module(state: Tracing, path: str, module: Any, x: Value, dims: int) -> Value:
    window = (module.kernel_size, module.stride, module.padding, module.dilation)
    return _max_pool(state, x, *window, module.ceil_mode, module.return_indices, dims=dims)


def _avg_module(state: Tracing, path: str, module: Any, x: Value, dims: int) -> Value:
    window = (module.kernel_size, module.stride, module.padding, module.ceil_mode)
    divisor = getattr(module, "divisor_override", None)
    return _avg_pool(state, x, *window, module.count_include_pad, divisor, dims=dims)


def _adaptive_module(
    state: Tracing, path: str, module: Any, x: Value, dims: int, kind: str
) -> Value:
    indices = getattr(module, "return_indices", False)
    return _adaptive(state, x, module.output_size, indices, dims=dims, kind=kind)


FUNCTIONS: list[Call] = [
    Call(partial(_max_pool, dims=1), (F.max_pool1d, torch.max_pool1d)),
    Call(partial(_max_pool, dims=2), (F.max_pool2d, torch.max_pool2d)),
    Call(partial(_max_pool, dims=3), (F.max_pool3d, torch.max_pool3d)),
    Call(partial(_avg_pool, dims=1), (F.avg_pool1d,)),
    Call(partial(_avg_pool, dims=2), (F.avg_pool2d,)),
    Call(partial(_avg_pool, dims=3), (F.avg_pool3d,)),
    Call(partial(_adaptive, dims=1, kind="avg"), (F.adaptive_avg_pool1d,)),
    Call(partial(_adaptive, dims=2, kind="avg"), (F.adaptive_avg_pool2d,)),
    Call(partial(_adaptive, dims=3, kind="avg"), (F.adaptive_avg_pool3d,)),
    Call(partial(_adaptive, dims=1, kind="max"), (F.adaptive_max_pool1d,)),
    Call(partial(_adaptive, dims=2, kind="max"), (F.adaptive_max_pool2d,)),
    Call(partial(_adaptive, dims=3, kind="max"), (F.adaptive_max_pool3d,)),
    Call(interpolate, (F.interpolate, F.upsample), (Integer, Shape)),
]
MODULES: dict[type[nn.Module], Handler] = {
    nn.MaxPool1d: partial(_max_module, dims=1),
    nn.MaxPool2d: partial(_max_module, dims=2),
    nn.MaxPool3d: partial(_max_module, dims=3),
    nn.AvgPool1d: partial(_avg_module, dims=1),
    nn.AvgPool2d: partial(_avg_module, dims=2),
    nn.AvgPool3d: partial(_avg_module, dims=3),
    nn.AdaptiveAvgPool1d: partial(_adaptive_module, dims=1, kind="avg"),
    nn.AdaptiveAvgPool2d: partial(_adaptive_module, dims=2, kind="avg"),
    nn.AdaptiveAvgPool3d: partial(_adaptive_module, dims=3, kind="avg"),
    nn.AdaptiveMaxPool1d: partial(_adaptive_module, dims=1, kind="max"),
    nn.AdaptiveMaxPool2d: partial(_adaptive_module, dims=2, kind="max"),
    nn.AdaptiveMaxPool3d: partial(_adaptive_module, dims=3, kind="max"),
    nn.Upsample: _upsample,
    nn.UpsamplingNearest2d: _upsample,
    nn.UpsamplingBilinear2d: _upsample,
}

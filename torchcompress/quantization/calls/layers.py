"""Convolutions, linear layers and norms."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from torchcompress.quantization.calls.call import Call, Handler, sequence
from torchcompress.quantization.sources import Norm, Source
from torchcompress.quantization.tracing import Parameter, Tracing, Value


def _padded(
    state: Tracing, x: Value, padding: Any, kernel: Sequence[int], dilation: Any, mode: str
) -> tuple[Value, list[int]]:
    """Returns the input of a convolution and how much it still pads itself, on both sides."""
    dims = len(kernel)
    if padding == "same":
        steps = sequence(dilation, dims)
        total = [d * (k - 1) for d, k in zip(steps, kernel, strict=True)]
        sides = [(t // 2, t - t // 2) for t in total]
    else:
        sides = [(n, n) for n in sequence(0 if padding == "valid" else padding, dims)]
    if mode == "zeros" and all(left == right for left, right in sides):
        return x, [left for left, _ in sides]
    flat = [n for pair in reversed(sides) for n in pair]
    x = state.emit("pad", x, sides=flat, mode="constant" if mode == "zeros" else mode)
    return x, [0] * dims


def parameters(state: Tracing, weight: Any, bias: Any) -> tuple[str, Source]:
    """Returns the path and the source of a layer that is called by function."""
    named = isinstance(weight, Parameter) and (bias is None or isinstance(bias, Parameter))
    if not named or weight.name not in state.tensors:
        raise state.unsupported("a weight that the forward pass computes")
    path = weight.name.removesuffix(".weight").removesuffix("_weight")
    shape = tuple(state.tensors[weight.name].shape)
    return path, Source(shape, weight.name, None if bias is None else bias.name)


def _convolution(
    state: Tracing,
    input: Value,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    dims: int,
) -> Value:
    path, source = parameters(state, weight, bias)
    return _emit_convolution(
        state, path, source, input, stride, padding, dilation, groups, "zeros", dims
    )


def _emit_convolution(
    state: Tracing,
    path: str,
    source: Source,
    x: Value,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    mode: str,
    dims: int,
) -> Value:
    x, inside = _padded(state, x, padding, source.shape[2:], dilation, mode)
    return state.emit(
        f"conv{dims}d",
        x,
        layer=state.layer(path, source),
        stride=sequence(stride, dims),
        padding=inside,
        dilation=sequence(dilation, dims),
        groups=groups,
        activation=None,
    )


def _linear(state: Tracing, input: Value, weight: Any, bias: Any = None) -> Value:
    return linear(state, input, *parameters(state, weight, bias))


def linear(state: Tracing, x: Value, path: str, source: Source) -> Value:
    """Appends a linear layer."""
    return state.emit("linear", x, layer=state.layer(path, source), activation=None)


def _weighted(path: str, module: Any, transposed_groups: int = 0) -> Source:
    bias = None if module.bias is None else f"{path}.bias"
    shape = tuple(module.weight.shape)
    return Source(shape, f"{path}.weight", bias, transposed_groups=transposed_groups)


def _conv_module(state: Tracing, path: str, module: Any, x: Value, dims: int) -> Value:
    source, mode = _weighted(path, module), module.padding_mode
    settings = (module.stride, module.padding, module.dilation, module.groups)
    return _emit_convolution(state, path, source, x, *settings, mode, dims)


def _transposed_module(state: Tracing, path: str, module: Any, x: Value, dims: int) -> Value:
    return state.emit(
        f"conv_transpose{dims}d",
        x,
        layer=state.layer(path, _weighted(path, module, module.groups)),
        stride=sequence(module.stride, dims),
        padding=sequence(module.padding, dims),
        output_padding=sequence(module.output_padding, dims),
        groups=module.groups,
        dilation=sequence(module.dilation, dims),
    )


def _linear_module(state: Tracing, path: str, module: nn.Linear, x: Value) -> Value:
    return linear(state, x, path, _weighted(path, module))


def _emit_affine(state: Tracing, path: str, norm: Norm, channels: int, x: Value) -> Value:
    key = state.layer(path, Source((channels, 1, 1, 1), norms=(norm,)))
    return state.emit("affine", x, layer=key, channels=channels, activation=None)


def _batch_norm(state: Tracing, path: str, module: Any, x: Value) -> Value:
    if module.running_mean is None:
        raise state.unsupported("a batch norm without running statistics")
    weight, bias = (None if p is None else f"{path}.{n}" for n, p in _affine(module))
    norm = Norm(f"{path}.running_mean", f"{path}.running_var", module.eps, weight, bias)
    return _emit_affine(state, path, norm, len(module.running_mean), x)


def _affine(module: Any) -> tuple[tuple[str, Any], tuple[str, Any]]:
    return ("weight", module.weight), ("bias", module.bias)


def _batch_norm_function(
    state: Tracing,
    input: Value,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Value:
    if training or not isinstance(running_mean, Parameter):
        raise state.unsupported("a batch norm without running statistics")
    given = (running_var, weight, bias)
    if running_var is None or not all(p is None or isinstance(p, Parameter) for p in given):
        raise state.unsupported("a batch norm whose tensors the forward pass computes")
    gain, shift = (None if p is None else p.name for p in (weight, bias))
    mean = running_mean.name
    path = mean.rpartition(".")[0] or mean
    channels = len(state.tensor(mean))
    norm = Norm(mean, running_var.name, eps, gain, shift)
    return _emit_affine(state, path, norm, channels, input)


def _layer_norm(
    state: Tracing,
    input: Value,
    normalized_shape: Any,
    weight: Value | None = None,
    bias: Value | None = None,
    eps: float = 1e-5,
) -> Value:
    if weight is None and bias is not None:
        raise state.unsupported("a layer norm with a bias and no weight")
    given = [p for p in (weight, bias) if p is not None]
    shape = sequence(normalized_shape, 1)
    return state.emit("layer_norm", input, *given, shape=shape, eps=eps)


def _rms_norm(
    state: Tracing,
    input: Value,
    normalized_shape: Any,
    weight: Value | None = None,
    eps: float | None = None,
) -> Value:
    given = [] if weight is None else [weight]
    return state.emit("rms_norm", input, *given, shape=sequence(normalized_shape, 1), eps=eps)


def _group_norm(
    state: Tracing,
    input: Value,
    num_groups: int,
    weight: Value | None = None,
    bias: Value | None = None,
    eps: float = 1e-5,
) -> Value:
    given = [p for p in (weight, bias) if p is not None]
    if len(given) == 1:
        raise state.unsupported("a group norm with only one of weight and bias")
    return state.emit("group_norm", input, *given, groups=num_groups, eps=eps)


def _constants(state: Tracing, path: str, module: Any) -> list[Value]:
    named = [(name, p) for name, p in _affine(module) if p is not None]
    return [state.constant(Parameter(f"{path}.{name}")) for name, _ in named]


def _layer_norm_module(state: Tracing, path: str, module: nn.LayerNorm, x: Value) -> Value:
    given = _constants(state, path, module)
    return _layer_norm(state, x, module.normalized_shape, *given, eps=module.eps)


def _rms_norm_module(state: Tracing, path: str, module: nn.RMSNorm, x: Value) -> Value:
    weight = None if module.weight is None else state.constant(Parameter(f"{path}.weight"))
    return _rms_norm(state, x, module.normalized_shape, weight, module.eps)


def _group_norm_module(state: Tracing, path: str, module: nn.GroupNorm, x: Value) -> Value:
    given = _constants(state, path, module)
    return _group_norm(state, x, module.num_groups, *given, eps=module.eps)


def _instance_norm(state: Tracing, path: str, module: Any, x: Value) -> Value:
    if module.running_mean is not None:
        return _batch_norm(state, path, module, x)
    return state.emit("instance_norm", x, *_constants(state, path, module), eps=module.eps)


def _local_response_norm(
    state: Tracing,
    input: Value,
    size: int,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 1.0,
) -> Value:
    return state.emit("local_response_norm", input, size=size, alpha=alpha, beta=beta, k=k)


FUNCTIONS: list[Call] = [
    Call(partial(_convolution, dims=1), (F.conv1d, torch.conv1d), (Parameter,)),
    Call(partial(_convolution, dims=2), (F.conv2d, torch.conv2d), (Parameter,)),
    Call(partial(_convolution, dims=3), (F.conv3d, torch.conv3d), (Parameter,)),
    Call(_linear, (F.linear,), (Parameter,)),
    Call(_batch_norm_function, (F.batch_norm,), (Parameter,)),
    Call(_layer_norm, (F.layer_norm, torch.layer_norm)),
    Call(_rms_norm, (F.rms_norm, torch.rms_norm)),
    Call(_group_norm, (F.group_norm,)),
    Call(_local_response_norm, (F.local_response_norm,)),
]


def _by_dims(handler: Callable[..., Value], dims: int) -> Handler:
    return partial(handler, dims=dims)


MODULES: dict[type[nn.Module], Handler] = {
    nn.Conv1d: _by_dims(_conv_module, 1),
    nn.Conv2d: _by_dims(_conv_module, 2),
    nn.Conv3d: _by_dims(_conv_module, 3),
    nn.ConvTranspose1d: _by_dims(_transposed_module, 1),
    nn.ConvTranspose2d: _by_dims(_transposed_module, 2),
    nn.ConvTranspose3d: _by_dims(_transposed_module, 3),
    nn.Linear: _linear_module,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.BatchNorm3d: _batch_norm,
    nn.SyncBatchNorm: _batch_norm,
    FrozenBatchNorm2d: _batch_norm,
    nn.LayerNorm: _layer_norm_module,
    nn.RMSNorm: _rms_norm_module,
    nn.GroupNorm: _group_norm_module,
    nn.InstanceNorm1d: _instance_norm,
    nn.InstanceNorm2d: _instance_norm,
    nn.InstanceNorm3d: _instance_norm,
    nn.LocalResponseNorm: lambda s, p, m, x: _local_response_norm(
        s, x, m.size, m.alpha, m.beta, m.k
    ),
}

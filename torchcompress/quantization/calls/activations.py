"""Activations, softmax, and other functions of single values."""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import StochasticDepth, stochastic_depth

from torchcompress.quantization.calls.call import Call, Handler
from torchcompress.quantization.tracing import Parameter, Tracing, Value


def _named(state: Tracing, input: Value, inplace: bool = False, *, name: str) -> Value:
    return state.emit("activation", input, name=name)


def _unary(state: Tracing, input: Value, *, name: str) -> Value:
    return state.emit("unary", input, name=name)


def _gelu(state: Tracing, input: Value, approximate: str = "none") -> Value:
    return state.emit("activation", input, name="gelu" if approximate == "none" else "gelu_tanh")


def _leaky_relu(
    state: Tracing, input: Value, negative_slope: float = 0.01, inplace: bool = False
) -> Value:
    return state.emit("leaky_relu", input, slope=negative_slope)


def _elu(state: Tracing, input: Value, alpha: float = 1.0, inplace: bool = False) -> Value:
    return state.emit("elu", input, alpha=alpha)


def _softplus(state: Tracing, input: Value, beta: float = 1.0, threshold: float = 20.0) -> Value:
    return state.emit("softplus", input, beta=beta, threshold=threshold)


def _prelu(state: Tracing, input: Value, weight: Value) -> Value:
    return state.emit("prelu", input, weight)


def _clamp(
    state: Tracing, input: Value, min: float | None = None, max: float | None = None
) -> Value:
    if isinstance(min, Value) or isinstance(max, Value):
        raise state.unsupported("clamp between tensors")
    return state.emit("clamp", input, low=min, high=max)


def _hardtanh(
    state: Tracing,
    input: Value,
    min_val: float = -1.0,
    max_val: float = 1.0,
    inplace: bool = False,
) -> Value:
    if (min_val, max_val) == (0.0, 6.0):
        return state.emit("activation", input, name="relu6")
    return _clamp(state, input, min_val, max_val)


def _softmax(
    state: Tracing,
    input: Value,
    dim: int | None = None,
    _stacklevel: int = 3,
    dtype: Any = None,
    *,
    kind: str = "softmax",
) -> Value:
    if dim is None or dtype not in (None, torch.float32):
        raise state.unsupported(f"{kind} without a dimension or in another dtype")
    return state.emit(kind, input, dim=dim)


def _softmax2d(state: Tracing, path: str, module: nn.Module, x: Value) -> Value:
    return state.emit("softmax", x, dim=-3)


def _normalize(
    state: Tracing,
    input: Value,
    p: float = 2.0,
    dim: int = 1,
    eps: float = 1e-12,
    out: None = None,
) -> Value:
    return state.emit("normalize", input, p=p, dim=dim, eps=eps)


def _dropout(
    state: Tracing,
    input: Value,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    name: str,
    module: str | None = None,
) -> Value:
    """Appends a dropout where the train-mode forward pass is read; `module` is its path, if any."""
    if not training or p == 0:
        return input
    if not state.training:
        raise state.unsupported("dropout that stays on in eval mode", "pass training=self.training")
    return state.emit("dropout", input, name=name, p=float(p), module=module)


def _stochastic_depth(
    state: Tracing, input: Value, p: float, mode: str, training: bool = True
) -> Value:
    return _dropout(state, input, p, training, name=f"stochastic_depth_{mode}")


def _dropout_module(state: Tracing, path: str, module: Any, x: Value) -> Value:
    name = _DROPOUTS[type(module)]
    return _dropout(state, x, module.p, state.training, name=name, module=path)


def _activation(name: str, *targets: Any, inplace: tuple[Any, ...] = ()) -> Call:
    return Call(partial(_named, name=name), targets, inplace=inplace)


_NAMED = {
    "abs": (torch.abs, "abs"),
    "exp": (torch.exp, "exp"),
    "log": (torch.log, "log"),
    "sqrt": (torch.sqrt, "sqrt"),
    "rsqrt": (torch.rsqrt, "rsqrt"),
    "reciprocal": (torch.reciprocal, "reciprocal"),
    "sin": (torch.sin, "sin"),
    "cos": (torch.cos, "cos"),
}
FUNCTIONS: list[Call] = [
    _activation("relu", F.relu, torch.relu, "relu", inplace=(torch.relu_, F.relu_, "relu_")),
    _activation("relu6", F.relu6),
    _activation("hardswish", F.hardswish),
    _activation("silu", F.silu),
    _activation("hardsigmoid", F.hardsigmoid),
    _activation("sigmoid", F.sigmoid, torch.sigmoid, "sigmoid", inplace=("sigmoid_",)),
    _activation("tanh", F.tanh, torch.tanh, "tanh", inplace=("tanh_",)),
    _activation("mish", F.mish),
    _activation("selu", F.selu, torch.selu),
    _activation("softsign", F.softsign),
    _activation("logsigmoid", F.logsigmoid),
    *(Call(partial(_unary, name=name), targets) for name, targets in _NAMED.items()),
    Call(_gelu, (F.gelu,)),
    Call(_leaky_relu, (F.leaky_relu,), inplace=(F.leaky_relu_,)),
    Call(_elu, (F.elu,), inplace=(F.elu_,)),
    Call(_softplus, (F.softplus,)),
    Call(_prelu, (F.prelu, torch.prelu)),
    Call(_hardtanh, (F.hardtanh,), inplace=(F.hardtanh_,)),
    Call(_clamp, (torch.clamp, torch.clip, "clamp", "clip"), inplace=(torch.clamp_, "clamp_")),
    Call(_softmax, (F.softmax, torch.softmax, "softmax")),
    Call(partial(_softmax, kind="log_softmax"), (F.log_softmax, torch.log_softmax, "log_softmax")),
    Call(_normalize, (F.normalize,)),
    Call(partial(_dropout, name="dropout"), (F.dropout,)),
    Call(partial(_dropout, name="dropout1d"), (F.dropout1d,)),
    Call(partial(_dropout, name="dropout2d"), (F.dropout2d,)),
    Call(partial(_dropout, name="dropout3d"), (F.dropout3d,)),
    Call(_stochastic_depth, (stochastic_depth,)),
]
_ACTIVATIONS: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.ReLU6: "relu6",
    nn.Hardswish: "hardswish",
    nn.SiLU: "silu",
    nn.Hardsigmoid: "hardsigmoid",
    nn.Sigmoid: "sigmoid",
    nn.Tanh: "tanh",
    nn.Mish: "mish",
    nn.SELU: "selu",
    nn.Softsign: "softsign",
    nn.LogSigmoid: "logsigmoid",
}
_DROPOUTS: dict[type[nn.Module], str] = {
    nn.Dropout: "dropout",
    nn.Dropout1d: "dropout1d",
    nn.Dropout2d: "dropout2d",
    nn.Dropout3d: "dropout3d",
    nn.AlphaDropout: "alpha_dropout",
    StochasticDepth: "stochastic_depth",
}
MODULES: dict[type[nn.Module], Handler] = {
    **dict.fromkeys(
        _ACTIVATIONS,
        lambda s, p, m, x: s.emit("activation", x, name=_ACTIVATIONS[type(m)]),
    ),
    **dict.fromkeys(_DROPOUTS, _dropout_module),
    nn.GELU: lambda s, p, m, x: _gelu(s, x, m.approximate),
    nn.LeakyReLU: lambda s, p, m, x: _leaky_relu(s, x, m.negative_slope),
    nn.ELU: lambda s, p, m, x: _elu(s, x, m.alpha),
    nn.Softplus: lambda s, p, m, x: _softplus(s, x, m.beta, m.threshold),
    nn.PReLU: lambda s, p, m, x: _prelu(s, x, s.constant(Parameter(f"{p}.weight"))),
    nn.Hardtanh: lambda s, p, m, x: _hardtanh(s, x, m.min_val, m.max_val),
    nn.Softmax: lambda s, p, m, x: _softmax(s, x, m.dim),
    nn.LogSoftmax: lambda s, p, m, x: _softmax(s, x, m.dim, kind="log_softmax"),
    nn.Softmax2d: _softmax2d,
}

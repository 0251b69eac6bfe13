"""The modules that quantization knows, each as operations of the program."""

from collections.abc import Callable
from typing import Any

from torch import nn

from torchcompress.quantization import call_functions as functions
from torchcompress.quantization.call_functions import pair
from torchcompress.quantization.sources import Norm, Source
from torchcompress.quantization.tracing import Tracing, Value

_DROPOUTS: dict[type[nn.Module], str] = {
    nn.Dropout: "dropout",
    nn.Dropout1d: "dropout1d",
    nn.Dropout2d: "dropout2d",
    nn.Dropout3d: "dropout3d",
    nn.AlphaDropout: "alpha_dropout",
}
_ACTIVATIONS: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.ReLU6: "relu6",
    nn.Hardswish: "hardswish",
    nn.SiLU: "silu",
    nn.Hardsigmoid: "hardsigmoid",
    nn.Sigmoid: "sigmoid",
}


def read(
    state: Tracing, path: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Appends the operations of a module's call and returns its value.

    Raises:
        UnsupportedError: A module, or a setting of one, outside the list.
    """
    given = (*args, *kwargs.values())
    if isinstance(module, nn.Identity) and len(given) == 1:
        return given[0]
    handler = _HANDLERS.get(type(module))
    if handler is None:
        raise state.unsupported(f"the module {type(module).__name__}")
    if len(given) != 1 or not isinstance(given[0], Value):
        raise state.unsupported(f"{type(module).__name__} with these arguments")
    return handler(state, path, module, given[0])


def _dropout(state: Tracing, path: str, module: Any, x: Value) -> Value:
    return functions.dropout(state, x, _DROPOUTS[type(module)], module.p, state.training)


def _activation(state: Tracing, path: str, module: nn.Module, x: Value) -> Value:
    return state.emit("activation", x, name=_ACTIVATIONS[type(module)])


def _conv2d(state: Tracing, path: str, module: nn.Conv2d, x: Value) -> Value:
    if module.padding_mode != "zeros":
        raise state.unsupported(f"padding_mode={module.padding_mode!r}")
    source = _weighted(path, module)
    padding = functions.conv_padding(state, module.padding, source.shape, module.dilation)
    return state.emit(
        "conv2d",
        x,
        layer=state.layer(path, source),
        stride=pair(module.stride),
        padding=padding,
        dilation=pair(module.dilation),
        groups=module.groups,
        activation=None,
    )


def _conv_transpose2d(state: Tracing, path: str, module: nn.ConvTranspose2d, x: Value) -> Value:
    source = _weighted(path, module, transposed_groups=module.groups)
    return state.emit(
        "conv_transpose2d",
        x,
        layer=state.layer(path, source),
        stride=pair(module.stride),
        padding=pair(module.padding),
        output_padding=pair(module.output_padding),
        groups=module.groups,
        dilation=pair(module.dilation),
    )


def _linear(state: Tracing, path: str, module: nn.Linear, x: Value) -> Value:
    return state.emit(
        "linear", x, layer=state.layer(path, _weighted(path, module)), activation=None
    )


def _weighted(path: str, module: Any, transposed_groups: int = 0) -> Source:
    bias = None if module.bias is None else f"{path}.bias"
    shape = tuple(module.weight.shape)
    return Source(shape, f"{path}.weight", bias, transposed_groups=transposed_groups)


def _batch_norm(state: Tracing, path: str, module: nn.BatchNorm2d, x: Value) -> Value:
    if module.running_mean is None:
        raise state.unsupported("a batch norm without running statistics")
    norm = Norm(
        f"{path}.running_mean",
        f"{path}.running_var",
        module.eps,
        f"{path}.weight" if module.affine else None,
        f"{path}.bias" if module.affine else None,
    )
    source = Source((module.num_features, 1, 1, 1), norms=(norm,))
    return state.emit(
        "affine",
        x,
        layer=state.layer(path, source),
        channels=module.num_features,
        activation=None,
    )


def _max_pool2d(state: Tracing, path: str, module: nn.MaxPool2d, x: Value) -> Value:
    return functions.max_pool2d(
        state,
        x,
        module.kernel_size,
        module.stride,
        module.padding,
        module.dilation,
        module.ceil_mode,
        module.return_indices,
    )


def _avg_pool2d(state: Tracing, path: str, module: nn.AvgPool2d, x: Value) -> Value:
    return functions.avg_pool2d(
        state,
        x,
        module.kernel_size,
        module.stride,
        module.padding,
        module.ceil_mode,
        module.count_include_pad,
        module.divisor_override,
    )


_HANDLERS: dict[type[nn.Module], Callable[..., Any]] = {
    **dict.fromkeys(_ACTIVATIONS, _activation),
    **dict.fromkeys(_DROPOUTS, _dropout),
    nn.Conv2d: _conv2d,
    nn.ConvTranspose2d: _conv_transpose2d,
    nn.Linear: _linear,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.SyncBatchNorm: _batch_norm,
    nn.MaxPool2d: _max_pool2d,
    nn.AvgPool2d: _avg_pool2d,
    nn.AdaptiveAvgPool2d: lambda s, p, m, x: functions.adaptive_avg_pool2d(s, x, m.output_size),
    nn.Flatten: lambda s, p, m, x: functions.flatten(s, x, m.start_dim, m.end_dim),
    nn.ChannelShuffle: lambda s, p, m, x: s.emit("channel_shuffle", x, groups=m.groups),
}

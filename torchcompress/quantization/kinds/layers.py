"""Kinds with weights, and the norms that stay float."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from torchcompress.quantization.kinds import checks
from torchcompress.quantization.kinds.kind import Args, Function, Kind
from torchcompress.quantization.kinds.pointwise import ACTIVATIONS

FUSED_ACTIVATIONS = ("relu", "relu6", "hardswish", "silu")
"""What an int8 layer can be followed by."""
LINEAR_ACTIVATIONS = (*FUSED_ACTIVATIONS, "gelu", "gelu_tanh", "tanh")
"""What an int8 linear layer can be followed by."""
RESIDUAL_ACTIVATIONS = (None, "relu")
"""What a fused residual sum can be followed by."""
_TENSORS = ("weight", "bias")
_FUSED = {"activation": checks.one_of(None, *FUSED_ACTIVATIONS)}


def activate(y: Tensor, name: str | None) -> Tensor:
    """Applies an activation by name; None is the identity."""
    return y if name is None else ACTIVATIONS[name](y)


def _geometry(dims: int) -> dict[str, checks.Check]:
    return {
        "stride": checks.integers(dims, 1),
        "padding": checks.integers(dims, 0),
        "dilation": checks.integers(dims, 1),
        "groups": checks.integer(1),
    }


def _convolution(function: Callable[..., Tensor], dims: int) -> Kind:
    def bind(args: Args, weight: Tensor, bias: Tensor) -> Function:
        settings = (args["stride"], args["padding"], args["dilation"], args["groups"])

        def run(x: Tensor, *residual: Tensor) -> Tensor:
            y = function(x, weight, bias, *settings)
            return activate(y + residual[0] if residual else y, args["activation"])

        return run

    return Kind(
        bind,
        {**_geometry(dims), **_FUSED},
        # The second operand is a fused residual sum.
        (1, 2 if dims == 2 else 1),
        tensors=_TENSORS,
        rank=dims + 2,
    )


def _transposed(function: Callable[..., Tensor], dims: int) -> Kind:
    def bind(args: Args, weight: Tensor, bias: Tensor) -> Function:
        def run(x: Tensor) -> Tensor:
            # The kernel reads beyond its input where these differ.
            if x.shape[1] != len(weight):
                raise ValueError("has a weight for another number of channels")
            return function(x, weight, bias, **args)

        return run

    args = {**_geometry(dims), "output_padding": checks.integers(dims, 0)}
    return Kind(bind, args, tensors=_TENSORS, rank=dims + 2, flaw=_transposed_flaw)


def _transposed_flaw(args: Args) -> str | None:
    steps = zip(args["stride"], args["dilation"], strict=True)
    fits = [o < max(step) for o, step in zip(args["output_padding"], steps, strict=True)]
    return None if all(fits) else "output_padding reaches a whole step"


def _linear(args: Args, weight: Tensor, bias: Tensor) -> Function:
    def run(x: Tensor) -> Tensor:
        if x.dim() < 2:
            raise ValueError("takes a batch of vectors")
        return activate(F.linear(x, weight, bias), args["activation"])

    return run


def _affine(args: Args, weight: Tensor, bias: Tensor) -> Function:
    def run(x: Tensor) -> Tensor:
        tail = [1] * (x.dim() - 2)
        y = torch.addcmul(bias.view(-1, *tail), x, weight.view(-1, *tail))
        return activate(y, args["activation"])

    return run


def _constant(args: Args, value: Tensor) -> Function:
    return lambda: value


def _layer_norm(args: Args) -> Function:
    shape, eps = args["shape"], args["eps"]
    return lambda x, *parameters: F.layer_norm(x, shape, *parameters, eps=eps)


def _rms_norm(args: Args) -> Function:
    shape, eps = args["shape"], args["eps"]
    return lambda x, *weight: F.rms_norm(x, shape, *weight, eps=eps)


def _group_norm(args: Args) -> Function:
    groups, eps = args["groups"], args["eps"]
    return lambda x, *parameters: F.group_norm(x, groups, *parameters, eps=eps)


def _instance_norm(args: Args) -> Function:
    eps = args["eps"]

    def run(x: Tensor, *parameters: Tensor) -> Tensor:
        weight, bias = parameters or (None, None)
        return F.instance_norm(x, weight=weight, bias=bias, eps=eps)

    return run


def _is_eps(value: object) -> bool:
    return checks.is_number(value) and float(value) >= 0  # pyright: ignore[reportArgumentType]


_NORMALIZED = {"shape": checks.list_of(checks.integer(1)), "eps": _is_eps}

LAYERS: dict[str, Kind] = {
    "conv1d": _convolution(F.conv1d, 1),
    "conv2d": _convolution(F.conv2d, 2),
    "conv3d": _convolution(F.conv3d, 3),
    "conv_transpose1d": _transposed(F.conv_transpose1d, 1),
    "conv_transpose2d": _transposed(F.conv_transpose2d, 2),
    "conv_transpose3d": _transposed(F.conv_transpose3d, 3),
    "linear": Kind(
        _linear, {"activation": checks.one_of(None, *LINEAR_ACTIVATIONS)}, tensors=_TENSORS
    ),
    "affine": Kind(_affine, {"channels": checks.integer(1), **_FUSED}, tensors=_TENSORS),
}
CONSTANTS: dict[str, Kind] = {
    "constant": Kind(
        _constant, {"dtype": checks.one_of("float32", "int64")}, (0, 0), tensors=("value",)
    )
}
NORMS: dict[str, Kind] = {
    "layer_norm": Kind(_layer_norm, _NORMALIZED, (1, 3)),
    "rms_norm": Kind(_rms_norm, {**_NORMALIZED, "eps": checks.optional(_is_eps)}, (1, 2)),
    "group_norm": Kind(_group_norm, {"groups": checks.integer(1), "eps": _is_eps}, (1, 3)),
    "instance_norm": Kind(_instance_norm, {"eps": _is_eps}, (1, 3)),
}

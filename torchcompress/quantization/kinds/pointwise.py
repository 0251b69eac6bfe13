"""Kinds that compute each value, or each row of values, in float32."""

import re
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torchcompress.quantization.kinds import checks
from torchcompress.quantization.kinds.checks import DIM, DIMS, is_bool, is_number
from torchcompress.quantization.kinds.kind import Args, Function, Kind

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "hardswish": F.hardswish,
    "silu": F.silu,
    "hardsigmoid": F.hardsigmoid,
    "sigmoid": torch.sigmoid,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "tanh": torch.tanh,
    "mish": F.mish,
    "selu": F.selu,
    "softsign": F.softsign,
    "logsigmoid": F.logsigmoid,
}
UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "abs": torch.abs,
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "reciprocal": torch.reciprocal,
    "sin": torch.sin,
    "cos": torch.cos,
}
_EQUATION = re.compile(r"[A-Za-z]{0,16}(,[A-Za-z]{0,16}){0,3}->[A-Za-z]{0,16}")


def _is_equation(value: Any) -> bool:
    return type(value) is str and _EQUATION.fullmatch(value) is not None


def _scalar(function: Callable[[Tensor, float], Tensor]) -> Kind:
    return Kind(lambda a: lambda x: function(x, a["value"]), {"value": is_number})


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Kind:
    return Kind(lambda a: function, operands=(2, 2))


def _reduction(function: Callable[..., Tensor]) -> Kind:
    def bind(args: Args) -> Function:
        dims, keepdim = args["dims"], args["keepdim"]
        return lambda x: function(
            x, list(range(x.dim())) if dims is None else dims, keepdim=keepdim
        )

    return Kind(bind, {"dims": checks.optional(DIMS), "keepdim": is_bool})


def _normalize(args: Args) -> Function:
    return lambda x: F.normalize(x, args["p"], args["dim"], args["eps"])


def _clamp(args: Args) -> Function:
    return lambda x: x.clamp(args["low"], args["high"])


def _clamp_flaw(args: Args) -> str | None:
    return "has no bound" if args["low"] is None and args["high"] is None else None


def _einsum(args: Args) -> Function:
    return lambda *xs: torch.einsum(args["equation"], *xs)


_BOUND = checks.optional(is_number)

POINTWISE: dict[str, Kind] = {
    "activation": Kind(lambda a: ACTIVATIONS[a["name"]], {"name": checks.one_of(*ACTIVATIONS)}),
    "unary": Kind(lambda a: UNARY[a["name"]], {"name": checks.one_of(*UNARY)}),
    "leaky_relu": Kind(lambda a: lambda x: F.leaky_relu(x, a["slope"]), {"slope": is_number}),
    "elu": Kind(lambda a: lambda x: F.elu(x, a["alpha"]), {"alpha": is_number}),
    "softplus": Kind(
        lambda a: lambda x: F.softplus(x, a["beta"], a["threshold"]),
        {"beta": checks.is_positive, "threshold": is_number},
    ),
    "prelu": _binary(F.prelu),
    "clamp": Kind(_clamp, {"low": _BOUND, "high": _BOUND}, flaw=_clamp_flaw),
    "add": _binary(torch.add),
    "sub": _binary(torch.sub),
    "mul": _binary(torch.mul),
    "div": _binary(torch.div),
    "maximum": _binary(torch.maximum),
    "minimum": _binary(torch.minimum),
    "add_scalar": _scalar(torch.add),
    "mul_scalar": _scalar(torch.mul),
    "div_scalar": _scalar(torch.div),
    "pow_scalar": _scalar(torch.pow),
    "pad_constant": Kind(
        lambda a: lambda x: F.pad(x, a["sides"], value=a["value"]),
        {"sides": checks.list_of(checks.integer(-(2**10), 2**10), 16), "value": is_number},
        flaw=lambda a: "pads half a dimension" if len(a["sides"]) % 2 else None,
    ),
    "matmul": _binary(torch.matmul),
    "einsum": Kind(_einsum, {"equation": _is_equation}, (1, 4)),
    "softmax": Kind(lambda a: lambda x: x.softmax(a["dim"]), {"dim": DIM}),
    "log_softmax": Kind(lambda a: lambda x: x.log_softmax(a["dim"]), {"dim": DIM}),
    "normalize": Kind(_normalize, {"p": checks.is_positive, "dim": DIM, "eps": checks.is_positive}),
    "mean": _reduction(torch.mean),
    "sum": _reduction(torch.sum),
    "amax": _reduction(torch.amax),
    "amin": _reduction(torch.amin),
}
TRAINING: dict[str, Kind] = {
    "dropout": Kind(
        lambda a: lambda x: x,
        {
            "name": lambda v: type(v) is str,
            "p": is_number,
            "module": checks.optional(lambda v: type(v) is str),
        },
        result="same",
    )
}
"""Kinds that act in training alone: an int8 program has none."""

"""Arithmetic between tensors, numbers and sizes; products and reductions."""

import operator
from functools import partial
from typing import Any

import torch

from torchcompress.quantization.calls.call import Call
from torchcompress.quantization.tracing import Integer, Opaque, Parameter, Shape, Tracing, Value


def _arithmetic(state: Tracing, input: Any, other: Any, *, alpha: float = 1, name: str) -> Any:
    operands = (input, other)
    if all(isinstance(v, int | Integer) for v in operands):
        return _of_sizes(state, name, input, other)
    if name == "add" and all(isinstance(v, tuple) for v in operands):
        return input + other
    tensors = [v for v in operands if isinstance(v, Value)]
    numbers = [float(v) for v in operands if isinstance(v, int | float)]
    if alpha != 1 and name in ("add", "sub"):
        scaled = (
            state.emit("mul_scalar", other, value=float(alpha)) if tensors[1:] else other * alpha
        )
        return _arithmetic(state, input, scaled, name=name)
    if len(tensors) == 2 and name in ("add", "sub", "mul", "div"):
        return state.emit(name, *tensors)
    if len(tensors) == 1 and len(numbers) == 1:
        left = isinstance(input, Value)
        made = (_tensor_number if left else _number_tensor)(state, name, tensors[0], numbers[0])
        if made is not None:
            return made
    raise state.unsupported(f"{name} of these operands")


def _of_sizes(state: Tracing, name: str, input: int | Integer, other: int | Integer) -> Integer:
    if name not in ("add", "sub", "mul", "floordiv", "mod"):
        raise state.unsupported(f"{name} of sizes")
    left, right = (v if isinstance(v, int) else None for v in (input, other))
    values = [v for v in (input, other) if isinstance(v, Integer)]
    return state.emit_integer("integer", *values, operator=name, left=left, right=right)


def _tensor_number(state: Tracing, name: str, x: Value, number: float) -> Value | None:
    if name == "sub":
        return state.emit("add_scalar", x, value=-number)
    if name == "pow" and number == -1.0:
        return state.emit("unary", x, name="reciprocal")
    if name in ("add", "mul", "div", "pow"):
        return state.emit(f"{name}_scalar", x, value=number)
    return None


def _number_tensor(state: Tracing, name: str, x: Value, number: float) -> Value | None:
    if name in ("add", "mul"):
        return state.emit(f"{name}_scalar", x, value=number)
    if name == "sub":
        return state.emit("add_scalar", state.emit("mul_scalar", x, value=-1.0), value=number)
    if name == "div":
        return state.emit("mul_scalar", state.emit("unary", x, name="reciprocal"), value=number)
    return None


def _negative(state: Tracing, input: Any) -> Any:
    if isinstance(input, Integer):
        return _of_sizes(state, "sub", 0, input)
    return state.emit("mul_scalar", input, value=-1.0)


def _square(state: Tracing, input: Value) -> Value:
    return state.emit("pow_scalar", input, value=2.0)


def _reduce(
    state: Tracing, input: Value, dim: Any = None, keepdim: bool = False, *, name: str
) -> Value:
    dims = None if dim is None else [dim] if isinstance(dim, int) else list(dim)
    if name == "mean" and dims is not None and sorted(dims) == [2, 3]:
        return state.emit("global_avg_pool", input, keepdim=keepdim)
    return state.emit(name, input, dims=dims, keepdim=keepdim)


def _extreme(
    state: Tracing,
    input: Value,
    dim: Any = None,
    keepdim: bool = False,
    *,
    other: Any = None,
    name: str,
) -> Value | tuple[Value, Opaque]:
    """Reads the three meanings of `max`: over all, over one dimension, of two tensors."""
    if other is not None or isinstance(dim, Value):
        second = dim if other is None else other
        return _elementwise(state, input, second, name={"amax": "maximum", "amin": "minimum"}[name])
    made = _reduce(state, input, dim, keepdim, name=name)
    return made if dim is None else (made, Opaque("the place of an extreme"))


def _elementwise(state: Tracing, input: Value, other: Value, *, name: str) -> Value:
    return state.emit(name, input, other)


def _matmul(state: Tracing, input: Value, other: Value) -> Value:
    return state.emit("matmul", input, other)


def _einsum(state: Tracing, equation: str, *operands: Any) -> Value:
    given = operands[0] if len(operands) == 1 and isinstance(operands[0], list) else operands
    equation = equation.replace(" ", "")
    if "->" not in equation or "." in equation:
        raise state.unsupported("einsum without an explicit output, or with an ellipsis")
    return state.emit("einsum", *given, equation=equation)


def _condition(state: Tracing, *operands: Any) -> Opaque:
    return Opaque("a condition")


def _assert(state: Tracing, condition: Any, message: str) -> None:
    return None


_SIZED = (Integer,)


def _binary(name: str, *targets: Any, inplace: tuple[Any, ...] = ()) -> Call:
    return Call(partial(_arithmetic, name=name), targets, _SIZED, inplace)


FUNCTIONS: list[Call] = [
    _binary("add", operator.add, torch.add, "add", inplace=(operator.iadd, "add_")),
    _binary("sub", operator.sub, torch.sub, "sub", inplace=(operator.isub, "sub_")),
    _binary("mul", operator.mul, torch.mul, "mul", inplace=(operator.imul, "mul_")),
    _binary("div", operator.truediv, torch.div, "div", inplace=(operator.itruediv, "div_")),
    _binary("pow", operator.pow, torch.pow, "pow"),
    _binary("floordiv", operator.floordiv),
    _binary("mod", operator.mod),
    Call(_negative, (operator.neg, torch.neg, "neg"), _SIZED),
    Call(_square, (torch.square, "square")),
    Call(partial(_reduce, name="mean"), (torch.mean, "mean")),
    Call(partial(_reduce, name="sum"), (torch.sum, "sum")),
    Call(partial(_reduce, name="amax"), (torch.amax, "amax")),
    Call(partial(_reduce, name="amin"), (torch.amin, "amin")),
    Call(partial(_extreme, name="amax"), (torch.max, "max")),
    Call(partial(_extreme, name="amin"), (torch.min, "min")),
    Call(partial(_elementwise, name="maximum"), (torch.maximum, "maximum")),
    Call(partial(_elementwise, name="minimum"), (torch.minimum, "minimum")),
    Call(_matmul, (operator.matmul, torch.matmul, torch.bmm, "matmul", "bmm")),
    Call(_einsum, (torch.einsum,)),
    Call(
        _condition,
        (operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge),
        (Parameter, Integer, Shape, Opaque),
    ),
    Call(_assert, (torch._assert,), (Opaque,)),
]

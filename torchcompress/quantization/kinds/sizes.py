"""Kinds that yield a size: known only when the program runs."""

import operator
from collections.abc import Callable

from torchcompress.quantization.kinds import checks
from torchcompress.quantization.kinds.checks import DIM
from torchcompress.quantization.kinds.kind import Args, Function, Kind

INTEGER_OPERATORS: dict[str, Callable[[int, int], int]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "floordiv": operator.floordiv,
    "mod": operator.mod,
}
_NUMBER = checks.optional(checks.integer(-(2**31), 2**31))


def _integer(args: Args) -> Function:
    function, left, right = INTEGER_OPERATORS[args["operator"]], args["left"], args["right"]
    if left is not None:
        return lambda b: function(left, b)
    return function if right is None else lambda a: function(a, right)


def _integer_flaw(args: Args) -> str | None:
    if args["left"] is not None and args["right"] is not None:
        return "takes an operand"
    divides = args["operator"] in ("floordiv", "mod") and args["right"] == 0
    return "division by zero" if divides else None


SIZES: dict[str, Kind] = {
    "size": Kind(lambda a: lambda x: x.shape[a["dim"]], {"dim": DIM}, result="size"),
    "rank": Kind(lambda a: lambda x: x.dim(), result="size"),
    "integer": Kind(
        _integer,
        {"operator": checks.one_of(*INTEGER_OPERATORS), "left": _NUMBER, "right": _NUMBER},
        operands=(0, 0),
        sizes=lambda a: (a["left"] is None) + (a["right"] is None),
        result="size",
        flaw=_integer_flaw,
    ),
}

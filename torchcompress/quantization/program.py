"""The program: a network as a flat list of plain-data operations."""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

Result = str | None | list[Any] | dict[str, Any]
"""What a program returns: a value id, None, `["tuple" | "list", item, ...]`, `{key: item}` or
`["OrderedDict", {key: item}]`; of a train-mode program, which is no plain data, also
`[NamedTuple, item, ...]`."""


Shapes = Mapping[str, tuple[int, ...]]
"""The shape of each tensor of a program, by value id."""


@dataclass(frozen=True)
class QParams:
    """An affine uint8 grid: `real = (q - zero_point) * scale`.

    Args:
        scale: Step between neighbours, above 0.
        zero_point: The integer, 0 to 255, that stands for 0.0.
    """

    scale: float
    zero_point: int


@dataclass(frozen=True)
class Op:
    """One call site.

    Args:
        kind: A key of `operations.KINDS`.
        output: The id of the value that it makes; each id is made once.
        inputs: The ids of the values that it reads.
        args: Plain data; which keys is up to the kind.
        layer: The key of its tensors (`<layer>.weight` and so on), where it has any.
        name: Module path and call, for messages and tables.
        int8: Its weights are int8; it computes on integers where its inputs are uint8, else in
            float32.
        out: The grid of its uint8 output; None is a float32 (or integer) output.
        inner: The grid over which a convolution's own products range, before its sum and
            activation; for runtimes that store these. None where it is not known or not needed.
    """

    kind: str
    output: str
    inputs: tuple[str, ...]
    args: dict[str, Any] = field(default_factory=dict)
    layer: str | None = None
    name: str = ""
    int8: bool = False
    out: QParams | None = None
    inner: QParams | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns the operation as JSON values."""
        return {
            "kind": self.kind,
            "output": self.output,
            "inputs": list(self.inputs),
            "args": self.args,
            "layer": self.layer,
            "name": self.name,
            "int8": self.int8,
            "out": _grid_to_json(self.out),
            "inner": _grid_to_json(self.inner),
        }


def _grid_to_json(grid: QParams | None) -> list[float | int] | None:
    return None if grid is None else [grid.scale, grid.zero_point]


@dataclass(frozen=True)
class CallForm:
    """How the arguments of a call hold the inputs of a program.

    Args:
        arguments: The parameters of the module, in order; `*name` and `**name` collect what is
            left, `name=` is given by keyword only.
        constants: Plain values that the program was traced with, by path such as `size[0]`.
    """

    arguments: tuple[str, ...]
    constants: dict[str, bool | int | float | str | None]

    def to_json(self) -> dict[str, Any]:
        """Returns the form as JSON values."""
        return {"arguments": list(self.arguments), "constants": self.constants}


@dataclass(frozen=True)
class Program:
    """A network as data.

    Args:
        inputs: `(path, value id)` in call order; the path of a tensor is the argument's name, or
            leads into its containers: `features[0]`, `features.pool`.
        ops: In the order in which they run.
        result: What is returned.
        call: How arguments hold the inputs, where each is not simply an argument.
    """

    inputs: tuple[tuple[str, str], ...]
    ops: tuple[Op, ...]
    result: Result
    call: CallForm | None = None

    def with_ops(self, ops: list[Op]) -> Self:
        """Returns the program with other operations."""
        return replace(self, ops=tuple(ops))

    def readers(self) -> dict[str, list[Op | None]]:
        """Returns who reads each value, once per operand; None stands for the result."""
        found: dict[str, list[Op | None]] = {value: [] for _, value in self.inputs}
        for op in self.ops:
            found.setdefault(op.output, [])
            for value in op.inputs:
                found[value].append(op)
        for value in result_values(self.result):
            found[value].append(None)
        return found

    def without_inputs(self) -> set[str]:
        """Returns what no input's values decide: constants, sizes, and what is made of them."""
        found: set[str] = set()
        for op in self.ops:
            if op.kind in ("size", "rank") or found.issuperset(op.inputs):
                found.add(op.output)
        return found

    def to_json(self) -> dict[str, Any]:
        """Returns the program as JSON values."""
        return {
            "inputs": [list(pair) for pair in self.inputs],
            "ops": [op.to_json() for op in self.ops],
            "result": self.result,
            "call": None if self.call is None else self.call.to_json(),
        }


def result_values(result: Result) -> Iterator[str]:
    """Yields the value ids of a result, in order."""
    if isinstance(result, str):
        yield result
    elif isinstance(result, dict):
        for item in result.values():
            yield from result_values(item)
    elif result is not None:
        for item in result[1:]:
            yield from result_values(item)


def map_result(result: Result, values: dict[str, Any]) -> Any:
    """Returns a result with `values` in place of ids: real tuples, lists and dicts."""
    if result is None:
        return None
    if isinstance(result, str):
        return values[result]
    if isinstance(result, dict):
        return {key: map_result(item, values) for key, item in result.items()}
    items = [map_result(item, values) for item in result[1:]]
    if result[0] == "OrderedDict":
        return OrderedDict(items[0])
    if isinstance(result[0], type):
        return result[0](*items)
    return tuple(items) if result[0] == "tuple" else items


def rename_result(result: Result, names: dict[str, str]) -> Result:
    """Returns a result with its value ids renamed."""
    if result is None:
        return None
    if isinstance(result, str):
        return names[result]
    if isinstance(result, dict):
        return {key: rename_result(item, names) for key, item in result.items()}
    return [result[0], *(rename_result(item, names) for item in result[1:])]

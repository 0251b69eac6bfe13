"""What the reading of a traced graph passes from call to call."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import torch
from torch import fx, nn

from torchcompress.core.errors import UnsupportedError
from torchcompress.quantization.operations import INTEGER
from torchcompress.quantization.program import Op
from torchcompress.quantization.sources import AnySource, Constant, Sources

COPY = "copy"
"""The op of a copy, which may share memory (`contiguous`) or not: no program keeps it."""
_MOST_NUMBERS = 2**16


@dataclass(frozen=True)
class Value:
    """A tensor of the program."""

    id: str


@dataclass(frozen=True)
class Integer:
    """A size that is known when the program runs."""

    id: str


@dataclass(frozen=True)
class Shape:
    """The shape of a tensor of the program, from some dimension on."""

    of: Value
    start: int = 0


@dataclass(frozen=True)
class Parameter:
    """A tensor of the model, by its path."""

    name: str


@dataclass(frozen=True)
class Opaque:
    """What the program has no use for: a condition, a dtype, a device."""

    what: str


@dataclass(frozen=True)
class Pieces:
    """What a tensor is split into along a dimension, as many as are asked for.

    Args:
        of: The tensor.
        dim: The dimension.
        size: Of each piece; None where the dimension goes.
    """

    of: Value
    dim: int
    size: int | None


@dataclass
class Tracing:
    """What has been read of a graph so far.

    Args:
        model: The module.
        tensors: Its state_dict.
        training: Whether the train-mode forward pass is read.
        name: The call that is being read, for messages.
    """

    model: nn.Module
    tensors: dict[str, torch.Tensor]
    training: bool = False
    name: str = ""
    ops: list[Op] = field(default_factory=list)
    sources: Sources = field(default_factory=Sources)
    env: dict[fx.Node, Any] = field(default_factory=dict)
    ids: Iterator[str] = field(default_factory=lambda: (f"v{n}" for n in itertools.count()))
    names: dict[str, int] = field(default_factory=dict)
    constants: dict[str, Value] = field(default_factory=dict)

    def begin(self, path: str) -> None:
        """Names the call that is read next: its path, numbered from the second call on."""
        self.names[path] = self.names.get(path, 0) + 1
        self.name = path if self.names[path] == 1 else f"{path}#{self.names[path]}"

    def emit(
        self, kind: str, *inputs: Value | Integer, layer: str | None = None, **args: Any
    ) -> Value:
        """Appends an op and returns its value.

        Raises:
            UnsupportedError: An input that the program does not compute.
        """
        if not all(isinstance(value, Value | Integer) for value in inputs):
            raise self.unsupported(f"{kind} of something that the forward pass does not compute")
        ids = tuple(value.id for value in inputs)
        self.ops.append(Op(kind, next(self.ids), ids, args, layer, self.name))
        return Value(self.ops[-1].output)

    def emit_integer(self, kind: str, *inputs: Value | Integer, **args: Any) -> Integer:
        """Appends an op that yields a size."""
        assert kind in INTEGER
        return Integer(self.emit(kind, *inputs, **args).id)

    def emit_sized(
        self, kind: str, *inputs: Value, sizes: Sequence[Any], into: str, **args: Any
    ) -> Value:
        """Appends an op whose argument `into` is a list of sizes, some of which are operands."""
        plain = [None if isinstance(size, Integer) else size for size in sizes]
        if not all(size is None or type(size) is int for size in plain):
            raise self.unsupported(f"{kind} with sizes that are not whole numbers")
        operands = [size for size in sizes if isinstance(size, Integer)]
        return self.emit(kind, *inputs, *operands, **{into: plain, **args})

    def size(self, value: Value, dim: int) -> Integer:
        """Appends the size of a dimension."""
        return self.emit_integer("size", value, dim=dim)

    def layer(self, path: str, source: AnySource) -> str:
        """Registers a layer's tensors and returns their key.

        Raises:
            UnsupportedError: A tensor that the state_dict does not hold under that name.
        """
        for name in source.expected_shapes():
            if name not in self.tensors:
                raise self.unsupported(
                    f"{name!r} is not in the state_dict",
                    "bake parametrizations into plain weights first",
                )
        return self.sources.key(path, source)

    def constant(self, parameter: Parameter) -> Value:
        """Returns a tensor of the model as a value of the program."""
        name = parameter.name
        if name not in self.constants:
            tensor, call = self.tensor(name), self.name
            self.name = name
            dtype = {torch.float32: "float32", torch.int64: "int64"}.get(tensor.dtype)
            if dtype is None or tensor.numel() == 0:
                raise self.unsupported(f"a tensor of {tensor.dtype} {list(tensor.shape)}")
            named = name in self.tensors
            if not named and (tensor.numel() > _MOST_NUMBERS or not tensor.isfinite().all()):
                raise self.unsupported(
                    f"a tensor outside the state_dict that is large or not finite, {name!r},",
                    "register it as a persistent buffer",
                )
            numbers = () if named else tuple(tensor.flatten().tolist())
            source = Constant(tuple(tensor.shape), dtype, name if named else None, numbers)
            key = self.layer(name, source)
            self.constants[name] = self.emit("constant", layer=key, dtype=dtype)
            self.name = call
        return self.constants[name]

    def tensor(self, name: str) -> torch.Tensor:
        """Returns a tensor of the model by its path."""
        if name in self.tensors:
            return self.tensors[name]
        found = reduce(getattr, name.split("."), self.model)
        if not isinstance(found, torch.Tensor):
            raise self.unsupported(f"{name!r}, which is {type(found).__name__},")
        return found

    def unsupported(self, what: str, hint: str | None = None) -> UnsupportedError:
        """Returns the error for the call that is being read."""
        return UnsupportedError(f"{what} cannot be quantized", where=self.name, hint=hint)

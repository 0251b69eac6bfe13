"""What the reading of a traced graph passes from call to call."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn

from torchcompress.core.errors import UnsupportedError
from torchcompress.quantization.program import Op
from torchcompress.quantization.sources import Source, Sources


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
    """The shape of a tensor of the program."""

    of: Value


@dataclass(frozen=True)
class Parameter:
    """A tensor of the model, by its state_dict name."""

    name: str


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
        return Integer(self.emit(kind, *inputs, **args).id)

    def layer(self, path: str, source: Source) -> str:
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

    def unsupported(self, what: str, hint: str | None = None) -> UnsupportedError:
        """Returns the error for the call that is being read."""
        return UnsupportedError(f"{what} cannot be quantized", where=self.name, hint=hint)

"""Networks described as plain data: steps over numbered values.

The inputs come first, then what each step returns.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from random_networks.step import STEPS, Shape

VOCABULARY = 11
KINDS_OF_INPUT: dict[str, Shape] = {
    "image": (3, 6, 6),
    "grey": (1, 6, 6),
    "tokens": (5, 10),
    "vector": (7,),
    "ids": (6,),
}


@dataclass(frozen=True)
class Node:
    """A step of a network.

    Attributes:
        kind: Its name in `STEPS`.
        reads: Numbers of the values that it reads.
        options: What its constructor takes.
        shares: Position of an earlier node whose module it calls again, or None.
    """

    kind: str
    reads: tuple[int, ...]
    options: dict[str, Any]
    shares: int | None = None


@dataclass(frozen=True)
class Description:
    """A network as plain data; its `repr` builds it again.

    Attributes:
        inputs: Kinds of its inputs.
        nodes: Its steps, in order.
        outputs: Numbers of the values that it returns.
        form: How it is called and what it returns: `tensor`, `tuple`, `list` or `dict`.
        ties: Pairs of names of parameters that are one.
        seed: Seed of its parameters.
    """

    inputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[int, ...]
    form: str = "tuple"
    ties: tuple[tuple[str, str], ...] = ()
    seed: int = 0

    def example(self, seed: int = 0) -> Any:
        """Returns inputs for two samples, as the network takes them."""
        generator = torch.Generator().manual_seed(seed)
        values = []
        for kind in self.inputs:
            shape = (2, *KINDS_OF_INPUT[kind])
            if kind == "ids":
                values.append(torch.randint(VOCABULARY, shape, generator=generator))
            else:
                values.append(torch.randn(shape, generator=generator))
        if self.form == "dict":
            return {f"x{index}": value for index, value in enumerate(values)}
        return values[0] if len(values) == 1 else tuple(values)


class RandomNetwork(nn.Module):
    """A described network, in eval mode, with parameters that keep values at a useful scale."""

    def __init__(self, description: Description) -> None:
        super().__init__()
        torch.manual_seed(description.seed)
        self.description = description
        self.embedding = nn.Embedding(VOCABULARY, 12) if "ids" in description.inputs else None
        self.steps = nn.ModuleList()
        values = sample(description, self.embedding)
        for node in description.nodes:
            values += self.extend(node, [values[i] for i in node.reads])
        self.shapes = [tuple(value.shape[1:]) for value in values]
        for one, other in description.ties:
            owner, _, name = other.rpartition(".")
            setattr(self.get_submodule(owner), name, self.get_parameter(one))
        self._initialise()
        self.eval()

    def extend(self, node: Node, operands: Sequence[Tensor]) -> list[Tensor]:
        """Adds a step and returns what it makes of these values."""
        shapes = [tuple(operand.shape[1:]) for operand in operands]
        made: nn.Module = (
            STEPS[node.kind](shapes, **node.options)
            if node.shares is None
            else self.steps[node.shares]
        )
        self.steps.append(made)
        with torch.no_grad():
            return as_list(made.eval()(*operands))

    def _initialise(self) -> None:
        with torch.no_grad():
            for index, (name, parameter) in enumerate(self.named_parameters()):
                if parameter.dim() > 1:
                    fan = max(parameter[0].numel(), 1)
                    parameter.normal_(0, 1.3 / fan**0.5)
                elif name.endswith("weight"):
                    parameter.uniform_(0.5, 1.5)
                else:
                    parameter.uniform_(-0.5, 0.5)
                parameter.requires_grad_(index % 5 != 3)
            for name, buffer in self.named_buffers():
                if buffer.is_floating_point():
                    buffer.uniform_(0.3, 1.2) if "var" in name else buffer.uniform_(-0.4, 0.4)

    def forward(self, *args: Tensor, **kwargs: Tensor) -> Any:
        values = list(args) + [kwargs[f"x{index}"] for index in range(len(kwargs))]
        if self.embedding is not None:
            place = self.description.inputs.index("ids")
            values[place] = self.embedding(values[place])
        for node, made in zip(self.description.nodes, self.steps, strict=True):
            values += as_list(made(*(values[i] for i in node.reads)))
        results = [values[i] for i in self.description.outputs]
        match self.description.form:
            case "dict":
                return {f"out{index}": result for index, result in enumerate(results)}
            case "list":
                return results
            case _:
                return results[0] if len(results) == 1 else tuple(results)


def value_shapes(description: Description) -> list[Shape]:
    """Returns the shape of one sample of each value of a network."""
    return RandomNetwork(description).shapes


def as_list(result: Any) -> list[Tensor]:
    """Returns what a step returned as a list of values."""
    return [result] if isinstance(result, Tensor) else list(result)


def sample(description: Description, embedding: nn.Embedding | None) -> list[Tensor]:
    """Returns the values that the inputs are, all zero."""
    values = []
    for kind in description.inputs:
        if kind == "ids":
            assert embedding is not None
            values.append(embedding(torch.zeros(2, *KINDS_OF_INPUT[kind], dtype=torch.long)))
        else:
            values.append(torch.zeros(2, *KINDS_OF_INPUT[kind]))
    return [value.detach() for value in values]

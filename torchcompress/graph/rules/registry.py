"""The table of rules: what each ATen operation does to labels."""

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from torchcompress.core.errors import CompressError, ExtensionError
from torchcompress.graph.couplings import Couplings
from torchcompress.graph.events import Mask, Resize
from torchcompress.graph.labels import Labels, Vector

FIXED = "meets an input or a constant that varies along it"


class Context(Protocol):
    """What a rule may ask of the tracer, and tell it."""

    couplings: Couplings
    attention: str

    @property
    def module(self) -> nn.Module:
        """The innermost module that runs."""
        ...

    def labels(self, tensor: Tensor) -> Labels:
        """Returns the labels of a tensor."""
        ...

    def set(self, tensor: Tensor, labels: Labels) -> None:
        """Labels a result."""
        ...

    def name(self, tensor: Tensor) -> str | None:
        """Returns the name of the parameter or buffer that a tensor is or views, or None."""
        ...

    def derive(self, weight: Tensor, parameter: Tensor) -> None:
        """Gives a weight that is computed from a parameter the name of that parameter."""
        ...

    def contraction(
        self,
        weight: str | None,
        output: Tensor,
        axes: Sequence[tuple[int, Vector | None]],
        masks: Sequence[Mask],
        produced: Vector | None = None,
        groups: Vector | None = None,
    ) -> None:
        """Records a convolution or matrix product: what it costs, and what it sums over.

        Args:
            weight: Name of the parameter that is multiplied with, or None.
            output: The result.
            axes: The iteration space: for each axis its size and its labels, or None.
            masks: The operands whose labelled dimension is summed over.
            produced: Labels of the channels that the weight makes.
            groups: Labels of the groups of a grouped convolution or of the heads of an attention,
                where whole ones may go.
        """
        ...

    def selection(
        self,
        reads: Sequence[Mask],
        writes: Sequence[Mask],
        resize: Resize | None = None,
        *,
        inexact: Iterable[Vector] | None = None,
        groups: Vector | None = None,
    ) -> None:
        """Records that the operation reads labelled dimensions as a whole; see `Selection`.

        Args:
            reads: Where kept indices are gathered.
            writes: Where they are scattered to.
            resize: Adapts the arguments that repeat a size.
            inexact: What gives another result where it is removed than where it is zeroed; by
                default all that is read.
            groups: Labels of the groups of a group norm, where whole groups may go.
        """
        ...


Args = tuple[Any, ...]
Kwargs = dict[str, Any]

Rule = Callable[[Context, Args, Kwargs, Any], None]
"""Called after the operation ran with its positional and keyword arguments and its result."""

_RULES: dict[str | torch.Tag, Rule] = {}


def rule(*operations: str | torch.Tag) -> Callable[[Rule], Rule]:
    """Registers what operations do to labels.

    The decorated function is called after the operation ran, with a `Context`, the positional and
    keyword arguments, and the result. It reads the labels of tensor arguments by `ctx.labels`,
    ties dimensions that must lose the same indices by `ctx.couplings.couple`, and labels each
    result by `ctx.set`. A product that sums over channels tells so by `ctx.contraction`, an
    operation that reads them as a whole by `ctx.selection`.

    Args:
        *operations: Names such as `aten.relu` or `mylib.scaled_silu`, with their in-place and
            `out=` forms; one overload, such as `aten.max.other`; or a tag of torch's. A custom
            operation tagged `torch.Tag.pointwise` needs no rule.

    Raises:
        CompressError: No operation is given, or something else.
    """
    if not operations or not all(map(_names_operation, operations)):
        raise CompressError(
            f"takes names of operations, not {', '.join(map(repr, operations)) or 'nothing'}",
            where="@rule",
            hint='write @rule("mylib.my_operation") above the function',
        )

    def register(function: Rule) -> Rule:
        for operation in operations:
            _RULES[operation] = function
        return function

    return register


def _names_operation(operation: Any) -> bool:
    if isinstance(operation, str):
        return all(map(str.isidentifier, operation.split("."))) and "." in operation
    return isinstance(operation, torch.Tag)


def find_rule(operation: torch._ops.OpOverload) -> Rule | None:
    """Returns the rule of an operation: of its overload, its name or one of its tags."""
    for key in _keys(operation):
        if key in _RULES:
            return _RULES[key]
    return None


@cache
def _keys(operation: torch._ops.OpOverload) -> tuple[str | torch.Tag, ...]:
    name = str(operation.overloadpacket)
    return str(operation), name, name.removesuffix("_"), *_tags(operation.overloadpacket)


@cache
def _tags(packet: torch._ops.OpOverloadPacket) -> frozenset[torch.Tag]:
    """Returns the tags of an operation, which torch leaves out of some overloads."""
    overloads = [getattr(packet, name) for name in packet.overloads()]
    return frozenset(tag for overload in overloads for tag in overload.tags)


def apply_rule(
    rule: Rule, operation: str, ctx: Context, args: Args, kwargs: Kwargs, out: Any
) -> None:
    """Lets a rule tell what an operation did to labels.

    Raises:
        ExtensionError: The rule fails; names the operation.
    """
    try:
        rule(ctx, args, kwargs, out)
    except Exception as error:  # A function of the user's may raise anything.
        raise ExtensionError(
            f"the rule raises {type(error).__name__}: {error}",
            where=operation,
            hint="correct the function that @rule registers for it",
        ) from error


def argument(args: Args, kwargs: Kwargs, position: int, name: str, default: Any = None) -> Any:
    """Returns an operation's argument, however it was passed."""
    if position < len(args):
        return args[position]
    return kwargs.get(name, default)

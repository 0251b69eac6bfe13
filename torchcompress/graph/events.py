"""What a traced run records of the operations that read a labelled dimension as a whole."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torchcompress.graph.labels import Vector


@dataclass(frozen=True)
class Mask:
    """A labelled dimension of an operand or a result.

    Attributes:
        argument: Position of the operand among the operation's arguments, or its name where it is
            passed by keyword; of a result its position among the results.
        dim: The dimension.
        labels: Its labels.
    """

    argument: int | str
    dim: int
    labels: Vector


@dataclass(frozen=True)
class Contraction:
    """One convolution or matrix product of the run.

    Attributes:
        index: How many operations the run had dispatched before.
        op: Name of the ATen operation.
        weight: Name of the parameter that is its second operand, or None.
        output_shape: Shape of the result.
        factor: Multiply-accumulates for one index of every labelled axis.
        axes: Labels of the axes of the iteration space that are labelled.
        masks: The operands that a removed channel leaves.
        produced: Labels of the channels that the weight makes.
        groups: Labels of the groups of a grouped convolution or of the heads of an attention, where
            whole ones may go.
        module: Path of the module that ran it.
    """

    index: int
    op: str
    weight: str | None
    output_shape: tuple[int, ...]
    factor: int
    axes: tuple[Vector, ...]
    masks: tuple[Mask, ...]
    produced: Vector | None = None
    groups: Vector | None = None
    module: str = ""

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the operation as it ran."""
        macs = self.factor
        for axis in self.axes:
            macs *= axis.size
        return macs

    @property
    def layer(self) -> str | None:
        """Path of the module that owns the weight; empty for the model itself.

        A parametrized weight is of the module that it is a weight of.
        """
        if self.weight is None:
            return None
        path = self.weight.rpartition(".")[0]
        return f".{path}".partition(".parametrizations.")[0].removeprefix(".")


Resize = Callable[[tuple[Any, ...], Callable[[Vector], int]], tuple[Any, ...]]
"""Returns an operation's positional arguments with the sizes that smaller operands have.

Called with the arguments, whose tensors are smaller already, and with a function that says how
many of some labels remain.
"""


@dataclass(frozen=True)
class Selection:
    """An operation that reads a labelled dimension as a whole: a norm, a softmax, a reduction.

    Without some of the indices it gives another result than with zeros in their place. The
    reference of a proof therefore gathers the indices that are kept from each operand, runs the
    operation on the smaller operands, and scatters its results back into zeros.

    Attributes:
        index: How many operations the run had dispatched before.
        op: Name of the ATen operation.
        module: Path of the module that ran it.
        reads: Where kept indices are gathered.
        writes: Where they are scattered to; empty where the dimension is reduced away.
        resize: Adapts the arguments that repeat a size.
        groups: Labels of the groups of a group norm, where whole groups may go.
        inexact: What gives another result where it is removed than where it is zeroed.
    """

    index: int
    op: str
    module: str
    reads: tuple[Mask, ...]
    writes: tuple[Mask, ...]
    resize: Resize | None = None
    groups: Vector | None = None
    inexact: tuple[Vector, ...] = ()

"""What a traced run records of the operations that cost arithmetic."""

from dataclasses import dataclass

from torchcompress.graph.labels import Vector


@dataclass(frozen=True)
class Mask:
    """An operand of a contraction whose labelled dimension is summed over.

    Attributes:
        argument: Position of the operand among the operation's arguments.
        dim: The dimension summed over.
        labels: Its labels.
    """

    argument: int
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
        groups: Labels of the groups of a grouped convolution, where whole groups may go.
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

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the operation as it ran."""
        macs = self.factor
        for axis in self.axes:
            macs *= axis.size
        return macs

    @property
    def layer(self) -> str | None:
        """Path of the module that owns the weight; empty for the model itself."""
        return None if self.weight is None else self.weight.rpartition(".")[0]

"""What one traced run of a model leaves behind."""

from collections import Counter
from dataclasses import dataclass, field

from torchcompress.graph.calls import Call
from torchcompress.graph.couplings import Couplings
from torchcompress.graph.course import Decision, Key
from torchcompress.graph.events import Contraction, Selection
from torchcompress.graph.labels import Labels
from torchcompress.graph.running import Conditions


@dataclass(frozen=True)
class Trace:
    """What one run of a model has shown.

    Attributes:
        couplings: Which labels go together and which are frozen.
        tensors: Labels of every parameter and buffer, by name.
        contractions: The convolutions and matrix products, in order.
        selections: The operations that read a labelled dimension as a whole, in order.
        unknown: How often each operation without a rule ran.
        calls: What each module was called with, by path.
        unread: Names of the tensors with channels that no operation read.
        outputs: Shape of every tensor of the output, by its path.
        decisions: What the run decided on numbers that no channel of them can change.
        conditions: Under what the model ran.
        training: The run of a branch that only training takes, where there is one. It shares
            `couplings` and `tensors`.
    """

    couplings: Couplings
    tensors: dict[str, Labels]
    contractions: list[Contraction]
    selections: list[Selection]
    unknown: Counter[str]
    calls: dict[str, Call] = field(default_factory=dict)
    unread: tuple[str, ...] = ()
    outputs: dict[str, tuple[int, ...]] = field(default_factory=dict)
    decisions: dict[Key, Decision] = field(default_factory=dict)
    conditions: Conditions = field(default_factory=Conditions)
    training: "Trace | None" = None

    @property
    def events(self) -> list[Contraction | Selection]:
        """The operations that read a labelled dimension as a whole or sum over it."""
        return [*self.contractions, *self.selections]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the run."""
        return sum(contraction.macs for contraction in self.contractions)

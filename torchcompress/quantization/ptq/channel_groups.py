"""Which values carry the same channels, so that a factor can move along them."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from torchcompress.quantization.operations import INTEGER
from torchcompress.quantization.program import Op, Program, result_values
from torchcompress.quantization.sources import AnySource, Source

_KEEPING = frozenset({"max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "dropout", "add"})
"""Kinds that commute with a positive factor for each channel of all their inputs."""
_ON_MAPS = frozenset({"conv2d", "affine"})
_ON_VECTORS = frozenset({"linear"})
_GATES = frozenset({"sigmoid", "hardsigmoid"})


@dataclass
class ChannelGroup:
    """Values whose channels can be multiplied together without changing the network.

    Args:
        values: Their ids.
        producers: Layers and norms that write them.
        written: The tensors' keys of these; they take the factors.
        consumers: Layers that read them; these take their inverses.
        last: The channels stand in the last dimension, not in dimension 1.
    """

    values: list[str] = field(default_factory=list)
    producers: list[Op] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    consumers: list[Op] = field(default_factory=list)
    last: bool = False


class _Groups:
    """Values joined so far, and those that must stay as they are."""

    def __init__(self) -> None:
        self.parent: dict[str, str] = {}
        self.fixed: set[str] = set()

    def find(self, value: str) -> str:
        self.parent.setdefault(value, value)
        while self.parent[value] != value:
            value = self.parent[value]
        return value

    def join(self, values: list[str]) -> None:
        for value in values[1:]:
            self.parent[self.find(value)] = self.find(values[0])


def channel_groups(program: Program, sources: Mapping[str, AnySource]) -> list[ChannelGroup]:
    """Returns the groups of values that only layers write and read, through a ReLU at most.

    Args:
        program: The fused float program.
        sources: Of its layers.
    """
    groups = _Groups()
    uses = Counter(op.layer for op in program.ops)
    makers = {op.output: op for op in program.ops}
    forms = {value: "?" for _, value in program.inputs}
    ends: dict[str, tuple[list[Op], list[Op]]] = defaultdict(lambda: ([], []))
    groups.fixed.update([*forms, *result_values(program.result)])
    for op in program.ops:
        if op.kind in _ON_MAPS | _ON_VECTORS and op.layer is not None:
            x, *residual = op.inputs
            ends[x][1].append(op)
            ends[op.output][0].append(op)
            groups.join([op.output, *residual])
            good = op.args["activation"] in (None, "relu") and uses[op.layer] == 1
            forms[op.output] = "map" if op.kind in _ON_MAPS else forms[x].replace("map", "?")
            if op.kind in _ON_VECTORS and forms[x] == "?":
                forms[op.output] = "last"
            if uses[op.layer] > 1 or not _reads(op, forms[x]):
                groups.fixed.add(x)
            if not good:
                groups.fixed.add(op.output)
        elif op.kind == "layer_norm" and len(op.inputs) == 3 and _owns(op, program, makers):
            groups.fixed.update(op.inputs)
            ends[op.output][0].append(op)
            forms[op.output] = "last"
        elif op.kind not in INTEGER:
            _pass_on(op, groups, forms, makers)
    found: dict[str, ChannelGroup] = defaultdict(ChannelGroup)
    for value in forms:
        group = found[groups.find(value)]
        group.values.append(value)
        group.producers += ends[value][0]
        for op in ends[value][0]:
            made = [op.layer, *(makers[v].layer for v in op.inputs[1:] if op.kind == "layer_norm")]
            group.written += [key for key in made if key is not None]
        group.consumers += ends[value][1]
        group.last = group.last or forms[value] == "last"
    fixed = {groups.find(value) for value in groups.fixed}
    return [
        group
        for root, group in found.items()
        if root not in fixed and group.producers and group.consumers and _same_width(group, sources)
    ]


def _reads(op: Op, form: str) -> bool:
    return form == "vector" or form == ("map" if op.kind in _ON_MAPS else "last")


def _owns(op: Op, program: Program, makers: Mapping[str, Op]) -> bool:
    """Returns whether a norm's weight and bias are constants that nothing else reads."""
    readers = program.readers()
    return len(op.args["shape"]) == 1 and all(
        value in makers and makers[value].kind == "constant" and len(readers[value]) == 1
        for value in op.inputs[1:]
    )


def _pass_on(op: Op, groups: _Groups, forms: dict[str, str], makers: Mapping[str, Op]) -> None:
    """Joins what an operation without weights reads and writes, or fixes it."""
    form = forms.get(op.inputs[0], "?") if op.inputs else "?"
    joined = list(op.inputs)
    if op.kind == "global_avg_pool":
        form = form if op.args["keepdim"] else "vector"
    elif op.kind == "flatten" and op.args["start"] == 1:
        # One pixel or none: the widths are compared in the end.
        form = "vector" if form in ("map", "vector") else "?"
    elif op.kind == "window_partition":
        joined, form = joined[:1], form if form == "last" else "?"
    elif op.kind == "mul" and len(op.inputs) == 2:
        gates = [v for v in op.inputs if _is_gate(makers.get(v))]
        joined = [v for v in op.inputs if v not in gates]
        form = forms.get(joined[0], "?") if len(joined) == 1 else "?"
        groups.fixed.update(gates)
    elif not (op.kind in _KEEPING or (op.kind == "activation" and op.args["name"] == "relu")):
        form = "?"
    forms[op.output] = form
    groups.join([op.output, *joined])
    if form == "?" or any(forms.get(value) != forms[joined[0]] for value in joined):
        groups.fixed.add(op.output)


def _is_gate(op: Op | None) -> bool:
    return op is not None and op.kind == "activation" and op.args["name"] in _GATES


def _same_width(group: ChannelGroup, sources: Mapping[str, AnySource]) -> bool:
    widths: set[int] = set()
    for op in group.producers:
        source = sources.get(op.layer or "")
        widths.add(source.channels if isinstance(source, Source) else op.args["shape"][0])
    for op in group.consumers:
        source = sources[op.layer or ""]
        assert isinstance(source, Source)
        widths.add(op.args.get("channels") or source.shape[1] * op.args.get("groups", 1))
    return len(widths) == 1

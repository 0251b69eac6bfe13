"""The plan of a channel cut: plain data that can be read, stored and applied."""

import json
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

from pydantic import TypeAdapter
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from torchcompress.core.errors import UnsupportedError
from torchcompress.core.history import record
from torchcompress.core.modules import copied, unwrapped
from torchcompress.core.plan import Plan
from torchcompress.pruning.compose import composed_groups, composed_removal, composed_shapes
from torchcompress.pruning.explain import Explanation, explain
from torchcompress.pruning.group_cut import GroupCut
from torchcompress.pruning.planned_latency import PlannedLatency
from torchcompress.pruning.surgery import (
    Removal,
    check_fits,
    check_mends,
    check_removal,
    cut,
    removal_to_json,
)


@dataclass(frozen=True)
class PruningPlan(Plan):
    """Which channels of a model go.

    Attributes:
        target: What was asked.
        groups: Every coupled group of the model, in its order.
        removed: For each parameter or buffer the indices that go from each dimension.
        mends: New attribute values by module path.
        shapes: Shapes of the cut tensors before.
        macs: Multiply-accumulates on the example input before and after.
        params: Parameters before and after.
        frozen_share: Fraction of the parameters that no plan could remove.
        notes: What the user should know about the choice of units of a group, by its name.
        inexact: Groups that lose channels whose removal differs from zeroing them, with the
            reason.
        latency: The times of a plan for a target in time.
        untested: Groups whose removed channels were all zero in the trial.
        difference: Largest difference between the pruned model and the original with the removed
            channels zeroed at every consumer, over the largest output; None without a trial.
        parameters: Names of all parameters of the model that the plan was made for.
    """

    kind: ClassVar[str] = "prune.channels"

    target: str
    groups: tuple[GroupCut, ...]
    removed: Removal
    mends: dict[str, dict[str, Any]]
    shapes: dict[str, tuple[int, ...]]
    macs: tuple[int, int]
    params: tuple[int, int]
    frozen_share: float
    notes: dict[str, str] = field(default_factory=dict)
    inexact: dict[str, str] = field(default_factory=dict)
    latency: PlannedLatency | None = None
    untested: tuple[str, ...] = ()
    difference: float | None = None
    parameters: tuple[str, ...] = ()

    @property
    def frozen(self) -> dict[str, str]:
        """The groups that must stay, each with the reason."""
        return {group.name: group.frozen for group in self.groups if group.frozen}

    def explain(self, name: str) -> Explanation:
        """Says which tensors share channels, through which operations, and why they stay or go.

        Args:
            name: A layer such as `layer1.0.conv1`, a parameter or buffer, or a group.

        Returns:
            What prints as text; its `groups` hold the same as data.

        Raises:
            CompressError: Nothing has this name; the nearest names are given.
        """
        return explain(name, self.groups, self.inexact)

    def apply(self, model: nn.Module, *, inplace: bool = False) -> nn.Module:
        """Returns the smaller model; nothing is traced.

        Args:
            model: A model of the architecture that the plan was made for. Of a compiled or
                parallel one the model inside is cut.
            inplace: Cut `model` itself and return it. Its parameters stay the same objects.
                Otherwise the result is a copy of the model inside the wrappers.

        Raises:
            CompressError: The plan does not fit; names the first tensor that differs.
            UnsupportedError: `inplace` under distributed data parallel, or a scripted model.
        """
        inner = unwrapped(model)
        check_fits(inner, self.shapes, self.parameters)
        check_removal(self.removed, self.shapes)
        check_mends(inner, self.mends)
        if inplace and isinstance(model, DistributedDataParallel):
            raise UnsupportedError(
                "distributed data parallel keeps buffers of the old sizes",
                where="inplace",
                hint="cut model.module in place and wrap it anew",
            )
        pruned = inner if inplace else copied(inner)
        cut(pruned, self.removed, self.mends)
        record(pruned, self)
        return model if inplace else pruned

    def then(self, later: "PruningPlan") -> Self:
        """Returns one plan for this one followed by another.

        Args:
            later: A plan made on the model that this plan gives.

        Raises:
            CompressError: The plans do not follow each other; names the first tensor that differs.
        """
        shapes = composed_shapes(self.removed, self.shapes, later.shapes)
        paths = dict.fromkeys((*self.mends, *later.mends))
        tried = [d for d in (self.difference, later.difference) if d is not None]
        return replace(
            self,
            target=f"{self.target}, then {later.target}",
            groups=composed_groups(self.groups, later.groups),
            removed=composed_removal(self.removed, later.removed, shapes),
            mends={p: {**self.mends.get(p, {}), **later.mends.get(p, {})} for p in paths},
            shapes=shapes,
            macs=(self.macs[0], later.macs[1]),
            params=(self.params[0], later.params[1]),
            notes={**self.notes, **later.notes},
            inexact={**self.inexact, **later.inexact},
            latency=None,
            untested=tuple(dict.fromkeys((*self.untested, *later.untested))),
            difference=max(tried) if len(tried) == 2 else None,
        )

    def to_json(self) -> dict[str, Any]:
        """Returns the plan as JSON values."""
        return {
            "target": self.target,
            "groups": [group.to_json() for group in self.groups],
            "removed": removal_to_json(self.removed),
            "mends": self.mends,
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
            "macs": list(self.macs),
            "params": list(self.params),
            "frozen_share": self.frozen_share,
            "notes": self.notes,
            "inexact": self.inexact,
            "latency": None if self.latency is None else self.latency.to_json(),
            "untested": list(self.untested),
            "difference": self.difference,
            "parameters": list(self.parameters),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Returns the plan that `to_json` described.

        Raises:
            ValidationError: A field that is missing or of another type, as pydantic names it.
        """
        return TypeAdapter(cls).validate_json(json.dumps(data), strict=True)

    def __str__(self) -> str:
        """Returns the plan as a table."""
        width = max([len("group"), *(len(group.name) for group in self.groups)])
        lines = [f"{'group':{width}}  channels      kept  layers  note"]
        for group in self.groups:
            notes = [f"frozen: {group.frozen}"] if group.frozen else []
            if group.name in self.inexact:
                notes.append(f"inexact: {self.inexact[group.name]}")
            if group.name in self.notes:
                notes.append(self.notes[group.name])
            if group.name in self.untested:
                notes.append("not tested")
            lines.append(
                f"{group.name:{width}}  {group.channels:8}  {group.kept:8}  {len(group.layers):6}"
                f"  {'; '.join(notes)}".rstrip()
            )
        for name, (before, after) in {"MACs": self.macs, "parameters": self.params}.items():
            left = f"{100 * after / before:.1f} %" if before else "none"
            lines.append(f"{name}: {before:,} -> {after:,} ({left})")
        if not self.removed:
            lines.append(f"nothing goes: the model meets {self.target} as it is")
        if self.latency is not None:
            lines.append(str(self.latency))
        lines.append(f"frozen share of the parameters: {100 * self.frozen_share:.1f} %")
        if self.difference is None:
            lines.append("trial: not run")
        else:
            left_out = ", or left out where a group is inexact" if self.inexact else ""
            lines.append(
                f"trial: equals the original with the removed channels zeroed{left_out}, "
                f"to {self.difference:.1e} of its largest output"
            )
        return "\n".join(lines)

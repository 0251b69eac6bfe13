"""The plan of a sparsity: which single weights of a model are zero."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from torchcompress.core.errors import ArtifactError, CompressError
from torchcompress.core.history import record
from torchcompress.core.modules import copied, unwrapped
from torchcompress.core.plan import Plan
from torchcompress.pruning.surgery import check_fits
from torchcompress.pruning.weights.packing import pack, unpack


@dataclass(frozen=True, eq=False)
class SparsityPlan(Plan):
    """Which weights of a model become zero.

    It says nothing of the values of the others, which the model's own tensors carry.

    Attributes:
        target: What was asked.
        pattern: `n:m` or `block:RxC`, None for single weights.
        shapes: Of every weight that a sparsity counts, by parameter name.
        kept: For the weights that lose some, where they stay: bool, of the weight's shape.
        notes: Why a weight stays as it was, and what else is worth knowing, by name.
    """

    kind: ClassVar[str] = "sparsity"

    target: str
    pattern: str | None
    shapes: dict[str, tuple[int, ...]]
    kept: dict[str, Tensor]
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def zeros(self) -> dict[str, int]:
        """How many weights of each tensor in `shapes` become zero."""
        dropped = {name: int(mask.numel() - mask.sum()) for name, mask in self.kept.items()}
        return {name: dropped.get(name, 0) for name in self.shapes}

    @property
    def sparsity(self) -> float:
        """The fraction of all counted weights that become zero."""
        return sum(self.zeros.values()) / sum(map(math.prod, self.shapes.values()))

    def apply(self, model: nn.Module, *, inplace: bool = False) -> nn.Module:
        """Returns the model with the weights that go set to zero.

        Args:
            model: A model of the architecture that the plan was made for; of a compiled or
                parallel one, the model inside is meant.
            inplace: Whether to change `model` itself.

        Raises:
            CompressError: The plan does not fit; names the first tensor that differs.
        """
        inner = unwrapped(model)
        check_fits(inner, self.shapes, ())
        sparse = inner if inplace else copied(inner)
        zero(dict(sparse.named_parameters()), self.kept)
        record(sparse, self)
        return model if inplace else sparse

    def beside(self, tensors: Mapping[str, Tensor]) -> Self:
        """Returns a plan whose masks are those bits that tensors stored beside it do not show.

        A mask becomes its difference from where the tensor of its name is not zero, which is
        nothing at all where the tensor has just these zeros. Done twice it gives the plan back.

        Args:
            tensors: By name; a mask without a tensor of its shape stays.
        """
        shown = {
            name: tensors[name].cpu() != 0
            for name, mask in self.kept.items()
            if name in tensors and tensors[name].shape == mask.shape
        }
        kept = {
            name: mask ^ shown[name] if name in shown else mask for name, mask in self.kept.items()
        }
        return replace(self, kept=kept)

    def to_json(self) -> dict[str, Any]:
        """Returns the plan as JSON values; a mask is packed to one bit a weight and compressed."""
        return {
            "target": self.target,
            "pattern": self.pattern,
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
            "kept": {name: pack(mask) for name, mask in self.kept.items()},
            "notes": self.notes,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Returns the plan that `to_json` described.

        Raises:
            ValidationError: A field that is missing or of another type, as pydantic names it.
            ArtifactError: A mask that is none of its weight.
        """
        stored = _Stored.model_validate(data)
        shapes = {name: tuple(shape) for name, shape in stored.shapes.items()}
        for name in stored.kept:
            if name not in shapes:
                raise ArtifactError("a mask of no known weight", where=name)
        kept = {name: unpack(text, shapes[name], name) for name, text in stored.kept.items()}
        return cls(stored.target, stored.pattern, shapes, kept, stored.notes)

    def __eq__(self, other: object) -> bool:
        """Whether both say the same, masks included."""
        return (
            isinstance(other, SparsityPlan)
            and self.kept.keys() == other.kept.keys()
            and (self.target, self.pattern, self.shapes, self.notes)
            == (other.target, other.pattern, other.shapes, other.notes)
            and all(torch.equal(mask.cpu(), other.kept[n].cpu()) for n, mask in self.kept.items())
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Returns itself, since nothing changes a plan and masks are large."""
        return self

    def __str__(self) -> str:
        """Returns the plan as a table."""
        sizes = {name: math.prod(shape) for name, shape in self.shapes.items()}
        lines = sparsity_table(self.zeros, sizes, self.notes)
        others = [f"{name}: {note}" for name, note in self.notes.items() if name not in sizes]
        asked = dict.fromkeys(text for text in (self.target, self.pattern) if text)
        return "\n".join([*lines, *others, f"asked: {', '.join(asked)}"])


class _Stored(BaseModel):
    """A plan as JSON values."""

    model_config = ConfigDict(extra="forbid", strict=True)

    target: str
    pattern: str | None
    shapes: dict[str, list[int]]
    kept: dict[str, str]
    notes: dict[str, str]


@torch.no_grad()
def zero(tensors: Mapping[str, Tensor], kept: Mapping[str, Tensor]) -> None:
    """Sets weights to zero in place, whatever they are.

    Args:
        tensors: The weights by name.
        kept: Where they stay, by name: bool, of the weight's shape.

    Raises:
        CompressError: A weight that has another shape by now.
    """
    for name, mask in kept.items():
        tensor = tensors[name]
        if tensor.shape != mask.shape:
            raise CompressError(
                f"has the shape {tuple(tensor.shape)}, its mask {tuple(mask.shape)}",
                where=name,
                hint="cut channels before weights, or after the training that holds their zeros",
            )
        tensor.masked_fill_(~mask.to(tensor.device), 0)


def sparsity_table(
    zeros: Mapping[str, int], sizes: Mapping[str, int], notes: Mapping[str, str]
) -> list[str]:
    """Returns the lines of a table of the zeros of each weight.

    Args:
        zeros: How many are zero, by name.
        sizes: How many there are.
        notes: What else is to be said.
    """
    width = max(len("weight"), *map(len, sizes))
    lines = [f"{'weight':{width}}       weights         zeros  sparsity  note"]
    for name, size in sizes.items():
        share = 100 * zeros[name] / size
        line = f"{name:{width}}  {size:12,}  {zeros[name]:12,}  {share:6.1f} %"
        lines.append(f"{line}  {notes.get(name, '')}".rstrip())
    gone, whole = sum(zeros.values()), sum(sizes.values())
    return [*lines, f"zeros: {gone:,} of {whole:,} weights ({100 * gone / whole:.2f} %)"]

"""The quantization plan: which int8 programs a model becomes, without its weights."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from torch import nn

from torchcompress.core.errors import ArtifactError, UnsupportedError
from torchcompress.core.history import inherit, record
from torchcompress.core.modules import unwrapped
from torchcompress.core.plan import Plan
from torchcompress.quantization.check_model import with_plain_weights
from torchcompress.quantization.host import check_paths, with_modules
from torchcompress.quantization.model import Int8Model
from torchcompress.quantization.partly import PartlyInt8Model
from torchcompress.quantization.plan_part import PlanPart
from torchcompress.quantization.table import Row, Table, parse_rows, parse_split


@dataclass(frozen=True)
class QuantizationPlan(Plan):
    """What `quantize` decided, as plain data: int8 programs and where their weights come from.

    Args:
        parts: By module path; the empty path is the whole model.
        left: What remains in float around the parts.
        split: Why a module that holds parts is not one itself, by path.
    """

    kind: ClassVar[str] = "quantization"

    parts: dict[str, PlanPart]
    left: tuple[Row, ...] = ()
    split: dict[str, str] = field(default_factory=dict)

    def table(self) -> Table:
        """Returns a row for each layer."""
        rows = [row for part in self.parts.values() for row in part.rows]
        return Table([*rows, *self.left], self.split)

    def apply(self, model: nn.Module, *, inplace: bool = False) -> Int8Model | PartlyInt8Model:
        """Folds and quantizes the weights of a model, by name; nothing is traced or calibrated.

        Rounding that was learned holds for the weights that it was learned from. A layer with
        others, and any layer of a plan that was read from JSON, which goes without it, is rounded
        to nearest, with a warning.

        Args:
            model: Any float32 model with the module tree, state_dict names and shapes of the
                planned one.
            inplace: Not possible: an int8 model is another class.

        Returns:
            One int8 program, or a copy of the model in eval mode whose parts are such.

        Raises:
            UnsupportedError: `inplace`, or weights that are not float32 or not finite.
            CompressError: A tensor or module is missing or of another shape (the first is named).
            ArtifactError: The plan's programs and sources do not belong together.
        """
        if inplace:
            raise UnsupportedError("an int8 model is a new module", where="inplace")
        model = with_plain_weights(unwrapped(model))
        state = model.state_dict()
        made: dict[str, Int8Model] = {}
        lost: list[str] = []
        for path, part in self.parts.items():
            made[path], nearest = part.build(state)
            lost += nearest
        if lost:
            warnings.warn(
                f"this plan's learned rounding of {len(lost)} layers ({lost[0]} ...) was not saved "
                "with it or belongs to other weights: these are rounded to nearest",
                UserWarning,
                stacklevel=2,
            )
        return self.assemble(model, made)

    def assemble(
        self, model: nn.Module, made: Mapping[str, Int8Model]
    ) -> Int8Model | PartlyInt8Model:
        """Puts int8 programs in the place of the parts of a model.

        Args:
            model: A float model with the module tree of the planned one, copied where it is kept.
            made: A program for each part, by path.

        Raises:
            CompressError: The model lacks a module.
        """
        result = made.get("")
        if result is None:
            host = with_modules(with_plain_weights(model), made)
            result = PartlyInt8Model(host, tuple(made), self.left, self.split)
        inherit(model, result)
        record(result, self)
        return result

    def to_json(self) -> dict[str, Any]:
        """Returns the plan as JSON values."""
        return {
            "parts": {path: part.to_json() for path, part in self.parts.items()},
            "left": [row.to_json() for row in self.left],
            "split": self.split,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Returns the plan that `to_json` described.

        Raises:
            ArtifactError: Something else.
        """
        names = {"parts", "left", "split"}
        if not isinstance(data, dict) or set(data) != names:
            raise ArtifactError(f"needs exactly {', '.join(sorted(names))}", where="plan")
        parts = data["parts"]
        if not isinstance(parts, dict) or not parts:
            raise ArtifactError("must hold at least one part", where="plan.parts")
        check_paths(parts)
        return cls(
            {path: PlanPart.from_json(part) for path, part in parts.items()},
            parse_rows(data["left"]),
            parse_split(data["split"]),
        )

    def __str__(self) -> str:
        parts = ((path, trial) for path, part in self.parts.items() for trial in part.trials)
        lines = [f"{path}: {trial}" if path else str(trial) for path, trial in parts]
        return "\n".join([str(self.table()), *lines])

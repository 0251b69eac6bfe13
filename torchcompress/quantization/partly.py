"""A model whose largest readable parts are int8 programs; the code around them runs as it was."""

from collections.abc import Mapping
from typing import Any, Self

from torch import Tensor, nn

from torchcompress.core.errors import UnsupportedError
from torchcompress.core.history import inherit, latest
from torchcompress.core.plan import Plan
from torchcompress.quantization.host import with_modules
from torchcompress.quantization.model import Int8Model
from torchcompress.quantization.table import Row, Table


class PartlyInt8Model(nn.Module):
    """A float model with int8 programs in the place of some modules.

    It is called as the model is. It stays in eval mode: the programs do not learn.

    Made by `quantize` and `QuantizationPlan.apply`, where a model cannot be read as one program.

    Args:
        model: The model, in eval mode, its parts in their places.
        paths: Of the parts.
        left: The layers that stay float around them.
        split: Why a module that holds parts is not one itself, by path.
    """

    def __init__(
        self,
        model: nn.Module,
        paths: tuple[str, ...],
        left: tuple[Row, ...],
        split: Mapping[str, str],
    ) -> None:
        super().__init__()
        self.model = model
        self._paths, self._left, self._split = paths, left, dict(split)
        self.eval()

    @property
    def parts(self) -> dict[str, Int8Model]:
        """The int8 programs by module path."""
        found = {path: self.model.get_submodule(path) for path in self._paths}
        return {path: part for path, part in found.items() if isinstance(part, Int8Model)}

    @property
    def left(self) -> tuple[Row, ...]:
        """The layers that stay float around the parts."""
        return self._left

    @property
    def split(self) -> dict[str, str]:
        """Why a module that holds parts is not one program itself, by path."""
        return dict(self._split)

    @property
    def plan(self) -> Plan | None:
        """The plan that made this model, None where it came without one."""
        return latest(self, "quantization")

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors of all parts by layer: `<layer>.weight`, `<layer>.scale`, `<layer>.bias`."""
        return {name: t for part in self.parts.values() for name, t in part.tensors.items()}

    @property
    def parameter_count(self) -> int:
        """Weights and biases, those around the parts included."""
        return sum(p.numel() for p in self.parameters()) + sum(
            part.parameter_count for part in self.parts.values()
        )

    @property
    def zero_count(self) -> int:
        """Weights and biases that are exactly zero, those around the parts included."""
        return sum(int((p == 0).sum()) for p in self.parameters()) + sum(
            part.zero_count for part in self.parts.values()
        )

    def table(self) -> Table:
        """Returns a row for each layer: int8 or float and why, its grid, its measured SQNR."""
        rows = [row for part in self.parts.values() for row in part.table()]
        return Table([*rows, *self._left], self._split)

    def int8_share(self) -> float | None:
        """Returns the share of the multiply-accumulates in int8; None where none were counted."""
        return self.table().int8_share()

    def reference(self) -> Self:
        """Returns a copy whose parts run the float64 reference."""
        parts = {path: part.reference() for path, part in self.parts.items()}
        made = type(self)(with_modules(self.model, parts), self._paths, self._left, self._split)
        inherit(self, made)
        return made

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the model."""
        return self.model(*args, **kwargs)

    def train(self, mode: bool = True) -> Self:
        """Stays in eval mode.

        Raises:
            UnsupportedError: `mode` is true.
        """
        if mode:
            raise UnsupportedError(
                "an int8 model does not train",
                where=type(self).__name__,
                hint="train the float model, or use prepare_qat",
            )
        return super().train(False)

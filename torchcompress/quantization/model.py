"""The int8 model: integer weights as buffers, the program as data."""

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor, nn

from torchcompress.core.errors import ArtifactError, CompressError, UnsupportedError
from torchcompress.core.history import inherit, latest
from torchcompress.core.plan import Plan
from torchcompress.quantization.binding import bind_inputs
from torchcompress.quantization.check_tensors import check_tensors
from torchcompress.quantization.emit import emit
from torchcompress.quantization.int8.selftest import native_works
from torchcompress.quantization.parse import parse_program
from torchcompress.quantization.program import Program
from torchcompress.quantization.table import Row, Table, parse_rows
from torchcompress.quantization.value_types import infer_types

_PACKED = 4


class Int8Model(nn.Module):
    """A network that computes on integers.

    int8 weights, float32 scales and biases are buffers; the program that uses them is plain data.
    On the CPU it runs oneDNN kernels, elsewhere the reference, which gives the same numbers. The
    kernels' own form of the weights is made at the first call with a new input shape and is never
    copied or saved.

    Made by `quantize`, `QuantizationPlan.apply` or `from_program`.
    """

    def __init__(
        self,
        program: Program,
        tensors: Mapping[str, Tensor],
        rows: tuple[Row, ...],
        *,
        native: bool = True,
    ) -> None:
        super().__init__()
        self.program = program
        self._rows = rows
        self._native = native
        self._types = infer_types(program)
        self._packed: dict[Any, Callable[..., Any]] = {}
        self.layers = nn.Module()
        for name, tensor in tensors.items():
            self.layers.register_buffer(_buffer_name(name), tensor)
        self.eval()

    @classmethod
    def from_program(cls, program: Any, tensors: Mapping[str, Any]) -> Self:
        """Builds a model from what `program_json` and `tensors` returned, or from any file.

        Args:
            program: JSON values; nothing in them is believed.
            tensors: By name.

        Raises:
            ArtifactError: A program or tensors that are malformed or do not belong together.
                Shapes that only an input tells are checked at the first call.
        """
        if not isinstance(program, dict):
            raise ArtifactError("must be an object", where="program")
        fields = dict(program)
        rows = parse_rows(fields.pop("rows", None))
        parsed = parse_program(fields)
        check_tensors(parsed, tensors)
        return cls(parsed, tensors, rows)

    def program_json(self) -> dict[str, Any]:
        """Returns the program and the table as JSON values."""
        return {**self.program.to_json(), "rows": [row.to_json() for row in self._rows]}

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The buffers by layer: `<layer>.weight`, `<layer>.scale`, `<layer>.bias`."""
        return {_tensor_name(name): tensor for name, tensor in self.layers.named_buffers()}

    @property
    def plan(self) -> Plan | None:
        """The plan that made this model, None where it came without one."""
        return latest(self, "quantization")

    @property
    def parameter_count(self) -> int:
        """Weights and biases."""
        return sum(t.numel() for name, t in self.tensors.items() if not name.endswith(".scale"))

    @property
    def zero_count(self) -> int:
        """Weights and biases that are exactly zero."""
        return sum(
            int((t == 0).sum()) for name, t in self.tensors.items() if not name.endswith(".scale")
        )

    def table(self) -> Table:
        """Returns a row for each layer: int8 or float and why, its grid, its measured SQNR."""
        return Table(self._rows)

    def int8_share(self) -> float | None:
        """Returns the share of the multiply-accumulates in int8; None where none were counted."""
        return self.table().int8_share()

    def reference(self) -> Self:
        """Returns a model on the same buffers that runs the float64 reference."""
        model = type(self)(self.program, self.tensors, self._rows, native=False)
        inherit(self, model)
        return model

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Computes the outputs in float32, in the containers of the model it came from.

        Raises:
            CompressError: Inputs whose shape does not fit.
        """
        inputs = bind_inputs(self.program, args, kwargs)
        with torch.no_grad():
            return self._function(inputs)(*inputs)

    def _function(self, inputs: list[Tensor]) -> Callable[..., Any]:
        key = tuple((x.shape, x.device) for x in inputs)
        function = self._packed.get(key)
        if function is None:
            function = self._emitted(inputs)
            # A new dict each time: other threads may be reading the old one.
            kept = list(self._packed.items())[-(_PACKED - 1) :]
            self._packed = {**dict(kept), key: function}
        return function

    def _emitted(self, inputs: list[Tensor]) -> Callable[..., Any]:
        tensors = self.tensors
        own = {tensor.device for tensor in tensors.values()}
        given = {x.device for x in inputs}
        if len(own | given) > 1:
            raise CompressError(
                f"the input is on {_names(given)}, the model on {_names(own)}",
                where=type(self).__name__,
                hint="move one of them",
            )
        native = self._native and given == {torch.device("cpu")} and native_works()
        shapes = tuple(x.shape for x in inputs)
        return emit(self.program, self._types, tensors, shapes, native)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        if fn(torch.zeros(1)).dtype != torch.float32:
            raise UnsupportedError(
                "an int8 model keeps its dtypes",
                where=type(self).__name__,
                hint="convert the float model before it is quantized",
            )
        self._packed = {}
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        # Not load_state_dict: a parent's never calls it.
        self._packed = {}
        super()._load_from_state_dict(*args, **kwargs)

    @cached_property
    def _digest(self) -> bytes:
        return hashlib.sha256(json.dumps(self.program.to_json(), sort_keys=True).encode()).digest()

    def get_extra_state(self) -> Tensor:
        """Returns the SHA-256 of the program, as 32 uint8: its grids say what the buffers mean."""
        return torch.tensor(list(self._digest), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Checks that a state_dict is of this program.

        Raises:
            CompressError: It is of another one.
        """
        if bytes(state.tolist()) != self._digest:
            raise CompressError(
                "the state_dict belongs to another int8 program, whose grids it does not hold",
                where=type(self).__name__,
                hint="load it into a model of the same plan, or keep models by tc.save",
            )

    def __getstate__(self) -> dict[str, Any]:
        # Packed weights can be neither pickled nor copied; deepcopy comes through here too.
        return {**self.__dict__, "_packed": {}}


def _names(devices: set[torch.device]) -> str:
    return " and ".join(sorted(map(str, devices)))


def tensors_under(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the tensors of an int8 model by layer, out of a state_dict that holds it.

    Args:
        prefix: Where the int8 model stands, with a dot at its end.
        state: The state_dict.
    """
    start = f"{prefix}layers."
    return {_tensor_name(n.removeprefix(start)): t for n, t in state.items() if n.startswith(start)}


def _buffer_name(name: str) -> str:
    return name.replace(".", "/")


def _tensor_name(name: str) -> str:
    return name.replace("/", ".")

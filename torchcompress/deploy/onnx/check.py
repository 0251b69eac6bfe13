"""Does ONNX Runtime compute from a file what the int8 model computes? Value by value."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from torchcompress.core.errors import CompressError
from torchcompress.core.inputs import Inputs, call, tensors_in
from torchcompress.deploy.onnx.grids import allowances
from torchcompress.deploy.onnx.parts import exchanged
from torchcompress.deploy.onnx.presets import Preset
from torchcompress.deploy.onnx.qdq import VALUE, preset_program
from torchcompress.deploy.onnx.session import open_session
from torchcompress.quantization import Int8Model, interpreter
from torchcompress.quantization.binding import bind_inputs
from torchcompress.quantization.int8 import kernels, reference
from torchcompress.quantization.int8.selftest import native_works
from torchcompress.quantization.program import QParams
from torchcompress.quantization.sqnr import sqnr
from torchcompress.quantization.value_types import infer_types

_TOLERANCE = 1e-3
_LEAST_DB = 10.0
_MIDDLE = 128


@dataclass(frozen=True)
class Differences:
    """How the uint8 values that ONNX Runtime makes differ from the model's, from equal inputs.

    Args:
        values: How many were compared.
        by_one: How many differ by one step.
        by_more: How many differ by more: only behind a grid that the preset adds.
        largest: In steps.
    """

    values: int = 0
    by_one: int = 0
    by_more: int = 0
    largest: int = 0


class _Observed(nn.Module):
    """An int8 model that keeps its uint8 values, as a list over its calls."""

    def __init__(self, model: Int8Model, preset: Preset) -> None:
        super().__init__()
        self.program = preset_program(model.program, preset)
        self.tensors = model.tensors
        self.types = infer_types(self.program)
        self.seen: dict[str, list[Tensor]] = {}

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Computes the program."""
        inputs = bind_inputs(self.program, args, kwargs)
        bind = kernels.bind if native_works() else reference.bind

        def keep(op: object, value: str, made: Any) -> None:
            if isinstance(self.types[value], QParams):
                self.seen.setdefault(value, []).append(made)

        with torch.no_grad():
            return interpreter.run(
                self.program, self.tensors, inputs, types=self.types, bind=bind, observe=keep
            )


def check_values(made: onnx.ModelProto, model: nn.Module, x: Inputs, preset: Preset) -> Differences:
    """Compares each uint8 value of a file with the model's, each made from the model's own.

    So that differences do not add up, the file is cut at these values: each operation reads what
    the model made, and what it makes is an output. In the preset for it, ONNX Runtime optimizes
    the pieces as it would the whole.

    Args:
        made: The file, its nodes still marked.
        model: The model that was exported.
        x: Example inputs.
        preset: How its values are written.

    Raises:
        CompressError: A value that differs by more than the preset's grids explain.
    """
    observed = exchanged(model, lambda _, part: _Observed(part, preset))
    with torch.no_grad():
        outputs = [tensor for _, tensor in tensors_in(call(observed, x))]
    parts = {p: m for p, m in observed.named_modules() if isinstance(m, _Observed)}
    cut, marks = _cut(made, parts)
    feed = _feed(made, x)
    wanted: dict[str, tuple[str, Tensor]] = {}
    for name, (mark, number) in marks.items():
        path, value = mark.split(":")
        mine = parts[path].seen[value][number]
        wanted[name] = (mark, mine)
        feed[f"{name}/given"] = _as_written(mine, preset)
    session = _session(cut, preset)
    got = dict(zip((o.name for o in session.get_outputs()), session.run(None, feed), strict=True))
    allowed = {
        f"{path}:{value}": steps if preset.closed else 1
        for path, part in parts.items()
        for value, steps in allowances(part.program).items()
    }
    found = Differences()
    for name, (mark, mine) in wanted.items():
        steps = np.abs(got[name].astype(np.int16) - _as_written(mine, preset).astype(np.int16))
        found = _added(found, steps)
        most = allowed[mark]
        if most is not None and steps.max(initial=0) > most:
            raise _wrong(f"the value {mark} differs by {steps.max()} steps, not at most {most}")
    exact = all(steps is not None for steps in allowed.values())
    for output, want in zip(made.graph.output, outputs, strict=True):
        _check_output(torch.from_numpy(got[output.name]), want, exact)
    return found


def check_outputs(made: onnx.ModelProto, model: nn.Module, x: Inputs) -> None:
    """Compares the outputs of a float model with those of its file.

    Raises:
        CompressError: One differs by over a thousandth of the largest.
    """
    with torch.no_grad():
        wanted = [tensor for _, tensor in tensors_in(call(model, x))]
    session = open_session(made.SerializeToString(), torch.get_num_threads())
    for got, want in zip(session.run(None, _feed(made, x)), wanted, strict=True):
        _check_output(torch.from_numpy(got), want, True)


def measured_sqnr(
    made: onnx.ModelProto, model: nn.Module, x: Inputs, preset: Preset
) -> float | None:
    """Returns the SQNR in dB of the file's outputs as ONNX Runtime computes them, over `model`'s.

    It is the lowest one of all outputs; None where they are equal.
    """
    with torch.no_grad():
        wanted = [tensor for _, tensor in tensors_in(call(model, x))]
    made_here = _session(made, preset).run(None, _feed(made, x))
    ratios = [
        sqnr(want, torch.from_numpy(got)) for got, want in zip(made_here, wanted, strict=True)
    ]
    return min((ratio for ratio in ratios if ratio is not None), default=None)


def _session(made: onnx.ModelProto, preset: Preset) -> Any:
    # What ONNX Runtime would make of a file that was written for another runtime is no matter.
    optimize = preset.name == "onnxruntime"
    return open_session(made.SerializeToString(), torch.get_num_threads(), optimize=optimize)


def _cut(
    made: onnx.ModelProto, parts: Mapping[str, _Observed]
) -> tuple[onnx.ModelProto, dict[str, tuple[str, int]]]:
    """Returns the file with its marked values as outputs and inputs, and their marks.

    A mark that stands several times belongs to a part that is called so often, in this order.
    """
    cut = onnx.ModelProto()
    cut.CopyFrom(made)
    marks: dict[str, tuple[str, int]] = {}
    counts: dict[str, int] = {}
    for node in cut.graph.node:
        for entry in node.metadata_props:
            if entry.key == VALUE:
                number = counts.get(entry.value, 0)
                marks[node.output[0]] = (entry.value, number)
                counts[entry.value] = number + 1
    for node in cut.graph.node:
        for index, name in enumerate(node.input):
            if name in marks:
                node.input[index] = f"{name}/given"
    types = {value.name: value for value in cut.graph.value_info}
    for name, (mark, number) in marks.items():
        path, value = mark.split(":")
        shape = parts[path].seen[value][number].shape
        kind = types[name].type.tensor_type.elem_type
        for label, values in ((name, cut.graph.output), (f"{name}/given", cut.graph.input)):
            values.append(onnx.helper.make_tensor_value_info(label, kind, list(shape)))
    return cut, marks


def _feed(made: onnx.ModelProto, x: Inputs) -> dict[str, np.ndarray]:
    tensors = [tensor.detach().contiguous().numpy() for _, tensor in tensors_in(x)]
    return {value.name: t for value, t in zip(made.graph.input, tensors, strict=True)}


def _as_written(value: Tensor, preset: Preset) -> np.ndarray:
    if preset.symmetric:
        value = (value.short() - _MIDDLE).to(torch.int8)
    return value.contiguous().numpy()


def _added(found: Differences, steps: np.ndarray) -> Differences:
    return Differences(
        found.values + steps.size,
        found.by_one + int((steps == 1).sum()),
        found.by_more + int((steps > 1).sum()),
        max(found.largest, int(steps.max(initial=0))),
    )


def _check_output(got: Tensor, want: Tensor, exact: bool) -> None:
    if got.shape != want.shape:
        raise _wrong(f"an output has the shape {list(got.shape)}, not {list(want.shape)}")
    gap = (got.double() - want.double()).abs().max().item() if want.numel() else 0.0
    if gap <= _TOLERANCE * want.abs().max().item() if want.numel() else True:
        return
    ratio = sqnr(want, got)
    if exact or ratio is None or ratio < _LEAST_DB:
        raise _wrong(f"an output differs by {gap:.3g}")


def _wrong(what: str) -> CompressError:
    return CompressError(
        f"ONNX Runtime does not compute what the model computes: {what}",
        where="check",
        hint="no file was written; check=False writes it nevertheless",
    )

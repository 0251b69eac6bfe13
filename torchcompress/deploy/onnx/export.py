"""Writing a model as an ONNX file, checked by running it."""

import importlib.util
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from torchcompress.core.errors import ArtifactError, CompressError, UnsupportedError
from torchcompress.core.files import real_file, replacing
from torchcompress.core.inputs import Inputs, call, map_tensors, tensors_in
from torchcompress.core.modules import undisturbed, unwrapped
from torchcompress.deploy.onnx.arguments import GraphArguments
from torchcompress.deploy.onnx.grids import changed_grids
from torchcompress.deploy.onnx.parts import exchanged, int8_parts
from torchcompress.deploy.onnx.presets import Preset, find_preset
from torchcompress.quantization import Int8Model
from torchcompress.quantization.check_model import refuse_prepared

if TYPE_CHECKING:
    import onnx

    from torchcompress.deploy.onnx.check import Differences

_TYPED_OPSET = 21
"""The first one in which QuantizeLinear names the type of its result."""
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class OnnxExport:
    """What `export_onnx` wrote.

    Args:
        path: The file.
        preset: The name of the preset.
        file_bytes: Its size.
        changed_grids: How many activations got another grid than the model's.
        differences: Of the uint8 values from the model's; None where nothing was checked.
        sqnr_db: Of the outputs, as ONNX Runtime computes them, over the model's, the lowest one;
            None where they are equal or nothing was checked.
    """

    path: Path
    preset: str
    file_bytes: int
    changed_grids: int
    differences: "Differences | None" = None
    sqnr_db: float | None = None

    def __str__(self) -> str:
        lines = [f"{self.path}: {self.file_bytes / 1e6:.2f} MB, preset {self.preset}"]
        if self.changed_grids:
            lines.append(f"{self.changed_grids} activation grids made symmetric")
        if self.differences is not None and self.differences.values:
            found = self.differences
            lines.append(
                f"{found.values} uint8 values: {found.by_one} differ by one step, "
                f"{found.by_more} by more, at most {found.largest}"
            )
        if self.sqnr_db is not None:
            lines.append(f"outputs at {self.sqnr_db:.1f} dB over the model's")
        return "\n".join(lines)


def export_onnx(
    model: nn.Module,
    path: str | Path,
    x: Inputs,
    preset: str = "onnxruntime",
    *,
    opset: int = 21,
    check: bool = True,
) -> OnnxExport:
    """Writes a model as an ONNX file with a dynamic batch.

    An int8 model becomes QuantizeLinear and DequantizeLinear with int8 weights in the file, placed
    as the runtime wants them. Any other model is written as it is.

    - `onnxruntime`: every convolution and linear layer runs on integers. Its convolutions only
      write uint8, so that a grid is added before each fused sum, hardswish and SiLU, and after a
      convolution whose output stays float here: calibrated, and a matter of a step or two.
    - `openvino`: the grids of the model, no others.
    - `tensorrt`: int8 activations, every zero point 0. Exact for a model that was quantized with
      `QuantizationConfig(symmetric=True)`. Otherwise each grid is replaced by the finest symmetric
      one that covers it, which costs up to a bit; `changed_grids` and `sqnr_db` say so.

    Args:
        model: An int8, float, pruned or sparse model, or one with int8 parts; exported in eval
            mode.
        path: The file to make or replace; written whole or not at all.
        x: Example inputs. The first dimension of each tensor is the batch; other sizes are fixed.
        preset: Which runtime reads the quantized values.
        opset: Version of the ONNX operators.
        check: Run the file in ONNX Runtime and compare it with the model first: each uint8 value
            within one step, from equal inputs, but for those behind an added grid.

    Returns:
        What was written, and how it differs.

    Raises:
        UnsupportedError: The packages of the extra `onnx` are missing, or the model cannot be
            exported, or is prepared for training and not converted.
        CompressError: An unknown preset or opset, or ONNX Runtime computes something else.
        ArtifactError: A place that cannot be written.
    """
    path, found = Path(path), find_preset(preset)
    _check_place(path)
    made, differences, ratio = checked_onnx(model, x, found, opset=opset, check=check)
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(made.SerializeToString())
    except OSError as error:
        raise ArtifactError(f"cannot be written: {error.strerror}", where=str(path)) from error
    parts = int8_parts(model).values() if found.symmetric else ()
    changed = sum(changed_grids(part.program) for part in parts)
    return OnnxExport(path, preset, path.stat().st_size, changed, differences, ratio)


def checked_onnx(
    model: nn.Module, x: Inputs, preset: Preset, *, opset: int, check: bool
) -> tuple["onnx.ModelProto", "Differences | None", float | None]:
    """Returns the file of a model, and how it differs; args and errors are `export_onnx`'s."""
    require_onnx()
    model = unwrapped(model)
    refuse_prepared(model)
    x = GraphArguments(model, x).example
    made = _quantized(model, x, preset, opset)
    differences, ratio = _compared(made, model, x, preset) if check else (None, None)
    _strip(made)
    return made, differences, ratio


def _check_place(path: Path) -> None:
    """Refuses a place early that cannot be written: an export takes a while."""
    try:
        if not real_file(path).parent.is_dir():
            raise ArtifactError("cannot be written: no such folder", where=str(path))
    except OSError as error:
        raise ArtifactError(f"cannot be written: {error.strerror}", where=str(path)) from error


def require_onnx() -> None:
    """Makes sure that the packages of the extra are there.

    Raises:
        UnsupportedError: One is missing.
    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UnsupportedError(
            f"needs {', '.join(missing)}",
            where="ONNX",
            hint="pip install torchcompress[onnx]",
        )


def _quantized(model: nn.Module, x: Inputs, preset: Preset, opset: int) -> "onnx.ModelProto":
    """Returns the file of a model, its nodes still marked."""
    from torchcompress.deploy.onnx.convert import to_onnx
    from torchcompress.deploy.onnx.qdq import QdqModule

    module = exchanged(model, lambda path, part: QdqModule(part, preset, path))
    inputs = [name for name, _ in model.program.inputs] if isinstance(model, Int8Model) else []
    x = map_tensors(_two_samples, x)
    made = to_onnx(module, x, opset, inputs, _output_names(model, x, inputs))
    if preset.symmetric and opset >= _TYPED_OPSET:
        _drop_zero_points(made)
    return made


def _drop_zero_points(made: "onnx.ModelProto") -> None:
    """Drops the zero points, all 0, of the activations' DequantizeLinear.

    Where ONNX Runtime moves such a node over a reshape or a pooling, it copies its zero point and
    names its type once more, and then finds that the two differ. Before opset 21, no type can be
    named, and a node without a zero point would become one of uint8.
    """
    for node in made.graph.node:
        if node.op_type == "DequantizeLinear" and not node.attribute:
            del node.input[2:]


def _output_names(model: nn.Module, x: Inputs, taken: Sequence[str]) -> list[str]:
    """Returns the paths of a model's outputs in their containers, as names in a file."""
    with undisturbed(model):
        try:
            paths = [path for path, _ in tensors_in(call(model, x))]
        except (RuntimeError, TypeError, ValueError, LookupError) as error:
            raise CompressError(f"the model cannot run on it: {error}", where="x") from error
    taken = taken or list(inspect.signature(model.forward).parameters)
    plain = all(path and not path.startswith("[") and path not in taken for path in paths)
    return paths if plain else [f"output{path}" for path in paths]


def _compared(
    made: "onnx.ModelProto", model: nn.Module, x: Inputs, preset: Preset
) -> tuple["Differences | None", float | None]:
    from torchcompress.deploy.onnx.check import check_outputs, check_values, measured_sqnr

    if not int8_parts(model):
        check_outputs(made, exchanged(model, lambda _, part: part), x)
        return None, None
    return check_values(made, model, x, preset), measured_sqnr(made, model, x, preset)


def _strip(made: "onnx.ModelProto") -> None:
    """Drops what only the exporter and the check need, such as stack traces."""
    del made.metadata_props[:], made.graph.metadata_props[:]
    for item in (*made.graph.node, *made.graph.value_info, *made.graph.input, *made.graph.output):
        del item.metadata_props[:]
        item.doc_string = ""


def _two_samples(tensor: Tensor) -> Tensor:
    # The exporter takes a batch of one for a constant.
    if tensor.dim() and len(tensor) == 1:
        return tensor.repeat(2, *[1] * (tensor.dim() - 1))
    return tensor

"""From a `.tcz` file to an ONNX file."""

from collections.abc import Collection
from pathlib import Path

import torch

from torchcompress.core.errors import ArtifactError
from torchcompress.deploy.artifact import load, read_manifest
from torchcompress.deploy.onnx import OnnxExport, export_onnx

_SAMPLES = 2


def export_file(
    source: Path,
    target: Path,
    preset: str,
    opset: int,
    image_size: int | None,
    trust: Collection[str],
) -> OnnxExport:
    """Exports a saved model; it is checked on noise of the shape that the file names.

    Args:
        source: A `.tcz` file.
        target: The ONNX file to make or replace.
        preset: Which runtime reads the quantized values.
        opset: Version of the ONNX operators.
        image_size: Height and width in pixels, by default what the file says.
        trust: Factories outside torchvision that may be called.

    Raises:
        ArtifactError: A file that is no artifact, or that does not say the shape of its input.
        CompressError: As in `export_onnx`.
    """
    shape = read_manifest(source).input_shape
    if shape is None:
        raise ArtifactError(
            "does not say what shape its input has",
            where=str(source),
            hint="save it with input_shape=, or use tc.export_onnx",
        )
    if image_size is not None:
        shape = [*shape[:-2], image_size, image_size]
    x = torch.randn(_SAMPLES, *shape, generator=torch.Generator().manual_seed(0))
    return export_onnx(load(source, trust=trust), target, x, preset, opset=opset)

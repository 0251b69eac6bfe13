"""Other ways to int8 on a CPU: torch.ao's FX mode, torchao's PT2E with inductor, ONNX Runtime.

Each function takes a float model and calibration images and returns a function of images, made as
that tool's documentation makes it for a CPU. A tool that fails raises whatever it raises.
"""

import copy
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

Run = Callable[[Tensor], Tensor]


def first_tensor(outputs: Any) -> Tensor:
    """Returns the first tensor of what a model gives: the logits, or the map of the classes."""
    if isinstance(outputs, Tensor):
        return outputs
    return first_tensor(next(iter(outputs.values() if isinstance(outputs, dict) else outputs)))


class Segmenter(nn.Module):
    """A segmentation model that gives its map of classes alone, for tools that know no dicts."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)["out"]


def fx_mode(model: nn.Module, images: Sequence[Tensor]) -> Run:
    """Returns a model quantized by `torch.ao.quantization`'s FX mode with its x86 back end."""
    from torch.ao.quantization import get_default_qconfig_mapping
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    torch.backends.quantized.engine = "x86"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mapping = get_default_qconfig_mapping("x86")
        prepared = prepare_fx(copy.deepcopy(model), mapping, (images[0],))
        with torch.no_grad():
            for batch in images:
                prepared(batch)
        return convert_fx(prepared)


def pt2e(model: nn.Module, images: Sequence[Tensor], batch: int) -> Run:
    """Returns a model quantized by torchao's PT2E for inductor, compiled for one batch size."""
    import torch._inductor.config as inductor
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    x = images[0][:1].repeat(batch, 1, 1, 1)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        exported = torch.export.export(model, (x,)).module()
        quantizer = x86.X86InductorQuantizer()
        quantizer.set_global(x86.get_default_x86_inductor_quantization_config())
        prepared = prepare_pt2e(exported, quantizer)
        for part in torch.cat(list(images)).split(batch):
            if len(part) == batch:
                prepared(part)
        converted = convert_pt2e(prepared)
        with inductor.patch({"freezing": True, "cpp.dynamic_threads": True}):
            compiled = torch.compile(converted)
            compiled(x)
    return compiled


def onnx_runtime(model: nn.Module, images: Sequence[Tensor], threads: int) -> Run:
    """Returns a model quantized by ONNX Runtime's static QDQ mode, by channel, on some threads."""
    import onnxruntime
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        left: Iterator[Tensor] = iter(images)

        def get_next(self) -> Any:
            batch = next(self.left, None)
            return None if batch is None else {"x": batch.numpy()}

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain, ready, int8 = (str(Path(folder) / f"{name}.onnx") for name in "abc")
        torch.onnx.export(
            model, (images[0],), plain, dynamo=True, verbose=False, opset_version=18,
            external_data=False, input_names=["x"], output_names=["y"],
            dynamic_shapes=({0: torch.export.Dim("n")},),
        )  # fmt: skip
        quant_pre_process(plain, ready, skip_symbolic_shape=True)
        quantize_static(
            ready, int8, Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        )  # fmt: skip
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(int8, options, ["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(None, {"x": x.numpy()})[0])

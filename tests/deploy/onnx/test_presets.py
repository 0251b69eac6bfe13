from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from torchcompress.deploy.onnx import OnnxExport, export_onnx
from torchcompress.deploy.onnx.presets import PRESETS
from torchcompress.quantization import Int8Model, QuantizationConfig, quantize

QDQ = ("QuantizeLinear", "DequantizeLinear")


def constants(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def zero_points(graph: onnx.GraphProto) -> Iterator[np.ndarray]:
    known = constants(graph)
    for node in graph.node:
        if node.op_type == "QuantizeLinear" or (node.op_type in QDQ and len(node.input) > 2):
            yield known[node.input[2]]


@pytest.mark.parametrize("preset", PRESETS)
def test_each_weight_is_an_int8_initializer_with_a_scale_for_each_channel(
    preset: str, files: dict[str, OnnxExport], int8_model: Int8Model
) -> None:
    graph = onnx.load(files[preset].path).graph
    known = constants(graph)
    floats = sum(a.size for a in known.values() if a.dtype == np.float32)
    stored = sum(a.size for a in known.values() if a.dtype == np.int8)
    weights = {n: t for n, t in int8_model.tensors.items() if n.endswith(".weight")}
    assert stored >= sum(t.numel() for t in weights.values())
    assert floats < 0.1 * stored
    makers = {output: node for node in graph.node for output in node.output}
    layers = [node for node in graph.node if node.op_type in ("Conv", "MatMul")]
    assert len(layers) == len(weights)
    for node in layers:
        dequantize = makers[node.input[1]]
        assert dequantize.op_type == "DequantizeLinear"
        weight, scale = (known[name] for name in dequantize.input[:2])
        axis = 0 if node.op_type == "Conv" else 1
        assert next(a.i for a in dequantize.attribute if a.name == "axis") == axis
        assert weight.dtype == np.int8
        assert scale.shape == (weight.shape[axis],)


def test_tensorrt_has_zero_points_of_0_and_int8_values(files: dict[str, OnnxExport]) -> None:
    graph = onnx.load(files["tensorrt"].path).graph
    points = list(zero_points(graph))
    assert points
    assert all(point.dtype == np.int8 and not point.any() for point in points)


class Moving(nn.Module):
    """A pooling, a permutation, a concatenation and a reshape between layers."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1)
        self.c, self.d = nn.Linear(8, 4), nn.Linear(200, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.max_pool2d(self.a(x).relu(), 2)
        x = torch.cat([x, self.b(x)], 2).permute(0, 2, 3, 1)
        return self.d(self.c(x).flatten(1))


@pytest.mark.parametrize("opset", [20, 21])
def test_onnx_runtime_may_optimize_a_tensorrt_file(
    opset: int, images: Tensor, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    config = QuantizationConfig(placement="all", symmetric=True)
    int8 = quantize(Moving().eval(), [images], config)
    written = export_onnx(int8, tmp_path / "m.onnx", images, "tensorrt", opset=opset)
    want = int8(images)
    for level in ("DISABLE_ALL", "ENABLE_BASIC", "ENABLE_ALL"):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        chosen = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_{level}")
        options.graph_optimization_level = chosen
        session = onnxruntime.InferenceSession(
            str(written.path), options, providers=["CPUExecutionProvider"]
        )
        got = torch.from_numpy(session.run(None, {"x": images.numpy()})[0])
        assert (got - want).abs().max() < 0.05 * want.std(), level


@pytest.mark.parametrize("preset", ["openvino", "tensorrt"])
def test_other_runtimes_find_each_quantize_before_its_dequantize(
    preset: str, files: dict[str, OnnxExport]
) -> None:
    graph = onnx.load(files[preset].path).graph
    readers: dict[str, list[str]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node.op_type)
    made = [node.output[0] for node in graph.node if node.op_type == "QuantizeLinear"]
    assert made
    assert all(readers[name] == ["DequantizeLinear"] for name in made)
    kinds = {numpy_helper.to_array(t).dtype for t in graph.initializer}
    assert np.dtype(np.int32) not in kinds


def test_onnx_runtime_leaves_no_float_convolution_or_product(
    files: dict[str, OnnxExport], tmp_path: Path
) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(
        str(files["onnxruntime"].path), options, providers=["CPUExecutionProvider"]
    )
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    assert kinds["QLinearConv"] == 7
    assert kinds["QGemm"] + kinds["MatMulIntegerToFloat"] == 2
    assert kinds["QLinearAdd"] == 1
    floats = {"Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul", "NhwcFusedConv"}
    assert floats.isdisjoint(kinds)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("batch", [1, 3])
def test_the_batch_may_change(
    preset: str, batch: int, files: dict[str, OnnxExport], int8_model: Int8Model, images: Tensor
) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if preset != "onnxruntime":
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        str(files[preset].path), options, providers=["CPUExecutionProvider"]
    )
    x = images[:batch]
    got = session.run(None, {"x": x.numpy()})
    for mine, made in zip(int8_model(x).values(), got, strict=True):
        theirs = torch.from_numpy(made)
        assert theirs.shape == mine.shape
        assert torch.allclose(theirs, mine, atol=0.02 * mine.abs().max().item())

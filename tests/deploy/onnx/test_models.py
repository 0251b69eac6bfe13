"""Models of other kinds than one traced network of convolutions."""

from pathlib import Path

import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torchvision.models import VisionTransformer
from torchvision.models.swin_transformer import SwinTransformerBlock

from torchcompress import compile, convert, export_onnx, prepare_qat, quantize
from torchcompress.deploy.onnx import OnnxExport
from torchcompress.quantization import Int8Model, PartlyInt8Model


def run(written: OnnxExport, x: Tensor) -> Tensor:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        str(written.path), options, providers=["CPUExecutionProvider"]
    )
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])


def test_a_transformer_keeps_its_batch_dynamic(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = VisionTransformer(16, 8, 1, 2, 16, 32, num_classes=4).eval()
    head = model.heads[0]
    assert isinstance(head, nn.Linear)
    nn.init.normal_(head.weight)
    x = torch.randn(4, 3, 16, 16)
    int8 = quantize(model, [x], "fast")
    written = export_onnx(int8, tmp_path / "vit.onnx", x, "openvino")
    assert written.differences is not None
    assert written.differences.largest <= 1
    for batch in (1, 3):
        want = int8(x[:batch])
        assert torch.allclose(run(written, x[:batch]), want, atol=1e-3)


class Attending(nn.Module):
    """Attention of torch.nn with the batch second, then shifted windows of torchvision."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.attention = nn.MultiheadAttention(8, 2)
        self.windows = SwinTransformerBlock(8, 2, [2, 2], [1, 1])
        self.last = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).transpose(0, 1)
        x = (x + self.attention(x, x, x, need_weights=False)[0]).transpose(0, 1)
        return self.last(self.windows(x.reshape(-1, 4, 4, 8)))


def test_attention_runs_in_onnx_runtime_at_any_batch() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 16, 8)
    int8 = quantize(Attending().eval(), [x], "fast")
    assert isinstance(int8, Int8Model)
    made = compile(int8, x, "onnxruntime")
    for batch in (1, 3, 4):
        want = int8(x[:batch])
        # A sum of integers may be rounded to the next step.
        assert (made(x[:batch]) - want).abs().max() < 0.05 * want.std()


class Loops(nn.Module):
    """Code that a symbolic trace cannot follow around layers that it can."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3))
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for _ in range(x.shape[-1] // 4):
            x = x + 1
        return self.head(x)


def test_the_int8_parts_of_a_model_are_exported_inside_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 3, 12, 12)
    int8 = quantize(Loops().eval(), [x], "fast")
    assert isinstance(int8, PartlyInt8Model)
    written = export_onnx(int8, tmp_path / "parts.onnx", x, "openvino")
    assert written.differences is not None
    assert written.differences.values > 1000
    assert written.differences.largest <= 1
    assert written.sqnr_db is None or written.sqnr_db > 80


@pytest.mark.parametrize(("preset", "largest"), [("onnxruntime", 2), ("openvino", 1)])
def test_a_converted_qat_model_is_exported_to_a_step(
    preset: str, largest: int, tmp_path: Path
) -> None:
    # ONNX Runtime stores what stands before a hardswish, on a grid that training did not see.
    torch.manual_seed(0)
    x = torch.randn(8, 3, 10, 10)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8),
        nn.Hardswish(), nn.Conv2d(8, 8, 1), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4),
    )  # fmt: skip
    training = prepare_qat(model, x)
    optimizer = torch.optim.SGD(training.parameters(), 0.01)
    for _ in range(3):
        training.train()
        training(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    int8 = convert(training)
    assert isinstance(int8, Int8Model)
    written = export_onnx(int8, tmp_path / "qat.onnx", x, preset)
    assert written.differences is not None
    assert written.differences.largest <= largest
    assert written.differences.by_more < 1e-3 * written.differences.values

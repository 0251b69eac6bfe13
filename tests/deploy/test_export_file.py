import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn

from torchcompress import load, quantize, save
from torchcompress.cli import main

MISSING = [n for n in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(n) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason="needs the extra onnx")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 4, 3)).eval()
    model = quantize(model, [torch.randn(4, 3, 16, 16)], "fast")
    save(model, tmp_path / "model.tcz", input_shape=(3, 16, 16))
    save(model, tmp_path / "bare.tcz")
    return tmp_path / "model.tcz"


def test_a_saved_model_is_exported_and_runs(
    saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import onnxruntime

    target = saved.with_name("model.onnx")
    arguments = [str(saved), str(target), "--preset", "openvino", "--image-size", "20"]
    assert main(["export", *arguments]) == 0
    shown = capsys.readouterr().out
    assert "preset openvino" in shown
    assert "uint8 values" in shown
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(target), options, providers=["CPUExecutionProvider"])
    x = torch.randn(3, 3, 20, 20)
    (got,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    want = load(saved)(x)
    assert torch.allclose(torch.from_numpy(got), want, atol=1e-3 * want.abs().max().item())


@pytest.mark.parametrize(
    ("source", "options", "part"),
    [
        ("bare.tcz", [], "does not say what shape"),
        ("none.tcz", [], "no such file"),
        ("model.tcz", ["--preset", "tensort"], "did you mean 'tensorrt'?"),
        ("model.tcz", ["--opset", "7"], "opset: 7 is not supported"),
    ],
)
def test_an_error_is_one_message_and_leaves_no_file(
    source: str,
    options: list[str],
    part: str,
    saved: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    target = saved.with_name("model.onnx")
    assert main(["export", str(saved.with_name(source)), str(target), *options]) == 1
    assert part in capsys.readouterr().err
    assert not target.exists()

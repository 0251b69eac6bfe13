import importlib.util
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from torchcompress import QuantizationConfig, Target, export_onnx, prune_channels, quantize
from torchcompress.deploy.onnx import OnnxExport, check, qdq
from torchcompress.errors import ArtifactError, CompressError, UnsupportedError
from torchcompress.quantization import Int8Model

ALL = QuantizationConfig(placement="all")


def test_each_uint8_value_is_the_models_to_a_step(files: dict[str, OnnxExport]) -> None:
    for preset in ("openvino", "tensorrt"):
        found = files[preset].differences
        assert found is not None
        assert found.values > 10_000
        assert found.largest <= 1
        assert found.by_one < 1e-3 * found.values
    found = files["onnxruntime"].differences
    assert found is not None
    assert found.largest <= 2
    assert found.by_more < 1e-3 * found.values


def test_only_tensorrt_changes_grids_and_says_what_it_costs(
    files: dict[str, OnnxExport],
) -> None:
    assert {p: f.changed_grids for p, f in files.items()} == {
        "onnxruntime": 0,
        "openvino": 0,
        "tensorrt": 9,
    }
    exact, symmetric = files["openvino"].sqnr_db, files["tensorrt"].sqnr_db
    assert exact is None or exact > 100
    assert symmetric is not None
    assert 30 < symmetric < 80
    assert "9 activation grids made symmetric" in str(files["tensorrt"])


def test_a_symmetric_model_is_exact_in_tensorrt(
    symmetric_model: Int8Model, images: Tensor, tmp_path: Path
) -> None:
    written = export_onnx(symmetric_model, tmp_path / "m.onnx", images, "tensorrt")
    assert written.changed_grids == 0
    assert written.differences is not None
    assert written.differences.largest <= 1
    assert written.sqnr_db is None or written.sqnr_db > 100


def test_a_file_of_large_layers_is_a_quarter_of_the_float_one(
    images: Tensor, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(432, 400), nn.ReLU(), nn.Linear(400, 400)).eval()
    small = export_onnx(quantize(model, [images], ALL), tmp_path / "int8.onnx", images)
    large = export_onnx(model, tmp_path / "float.onnx", images[:1])
    assert small.file_bytes < 0.28 * large.file_bytes
    assert large.file_bytes == (tmp_path / "float.onnx").stat().st_size
    session = onnxruntime.InferenceSession(str(large.path), providers=["CPUExecutionProvider"])
    got = session.run(None, {session.get_inputs()[0].name: images[:3].numpy()})[0]
    assert torch.allclose(torch.from_numpy(got), model(images[:3]), atol=1e-5)


def test_a_pruned_model_in_training_mode_is_exported_in_eval_mode_and_left_alone(
    float_model: nn.Module, images: Tensor, tmp_path: Path
) -> None:
    model = prune_channels(float_model, images, Target(channels=0.5), round_to=1).train()
    export_onnx(model, tmp_path / "m.onnx", images)
    assert model.training
    session = onnxruntime.InferenceSession(
        str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"]
    )
    got = session.run(None, {"x": images.numpy()})
    for mine, theirs in zip(model.eval()(images).values(), got, strict=True):
        assert torch.allclose(torch.from_numpy(theirs), mine, atol=1e-5)


def test_a_file_holds_no_paths_of_the_machine_that_wrote_it(files: dict[str, OnnxExport]) -> None:
    data = files["onnxruntime"].path.read_bytes()
    assert b"/torchcompress" not in data
    assert b"stack_trace" not in data
    onnx.checker.check_model(onnx.load(files["onnxruntime"].path), full_check=True)


def test_a_file_that_computes_something_else_is_not_written(
    images: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = quantize(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3)), [images], ALL
    )
    (tmp_path / "m.onnx").write_text("older")
    right = qdq._integer
    monkeypatch.setattr(qdq, "_integer", lambda value, preset: right(min(value + 2, 255), preset))
    with pytest.raises(CompressError, match="ONNX Runtime does not compute"):
        export_onnx(model, tmp_path / "m.onnx", images, "openvino")
    assert (tmp_path / "m.onnx").read_text() == "older"
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


def test_what_cannot_be_exported_is_said_before_anything_is_written(
    images: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Branches(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 1 if x.sum() > 0 else x - 1

    path = tmp_path / "m.onnx"
    with pytest.raises(UnsupportedError, match=r"Branches: cannot be exported: .*[Dd]ata"):
        export_onnx(Branches(), path, images)
    with pytest.raises(CompressError, match="did you mean 'tensorrt'"):
        export_onnx(nn.Identity(), path, images, "tensort")
    with pytest.raises(CompressError, match="opset: 9 is not supported"):
        export_onnx(nn.Identity(), path, images, opset=9)
    with pytest.raises(CompressError, match=r"torch\.nn\.Module, not"):
        export_onnx(images, path, images)  # pyright: ignore[reportArgumentType]
    with pytest.raises(CompressError, match="x: the model cannot run on it"):
        export_onnx(nn.Linear(2, 2), path, images)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        UnsupportedError, match=r"onnxruntime[\s\S]*pip install torchcompress\[onnx"
    ):
        export_onnx(nn.Identity(), path, images)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_an_error(images: Tensor, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot be written"):
        export_onnx(nn.ReLU(), tmp_path / "nowhere" / "m.onnx", images)
    with pytest.raises(ArtifactError, match="not a regular file"):
        export_onnx(nn.ReLU(), tmp_path, images)


def test_an_output_that_is_wrong_is_seen() -> None:
    want = torch.ones(4)
    check._check_output(want + 1e-5, want, True)
    with pytest.raises(CompressError, match=r"differs by 0\.5"):
        check._check_output(want + 0.5, want, True)
    with pytest.raises(CompressError, match="shape"):
        check._check_output(want[:2], want, True)

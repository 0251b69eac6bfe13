import copy
import importlib.util
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torchcompress import QuantizationConfig, compile, history, quantize
from torchcompress.deploy.backends import choose
from torchcompress.errors import CompressError, UnsupportedError
from torchcompress.quantization.sqnr import sqnr

MISSING = [n for n in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(n) is None]
needs_onnx = pytest.mark.skipif(bool(MISSING), reason="needs the extra onnx")


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3)
        self.norm = nn.BatchNorm2d(16)
        self.second = nn.Conv2d(16, 16, 3)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor, gain: float = 1.0) -> Any:
        x = self.second(self.norm(self.first(x)).relu()).relu()
        return {"map": x, "more": (self.head(x.mean((2, 3))) * gain, None)}


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(scope="module")
def int8() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.Flatten())
    calibration = [torch.randn(8, 3, 10, 10)]
    return quantize(model.eval(), calibration, QuantizationConfig(placement="all"))


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.randn(4, 3, 10, 10, generator=torch.Generator().manual_seed(1))


def left_out(*_: object) -> nn.Module:
    raise UnsupportedError("left out of this test", where="inductor")


@pytest.fixture
def no_inductor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "inductor", left_out)


@needs_onnx
def test_onnx_runtime_returns_the_containers_of_the_model_at_any_batch(
    model: nn.Module, x: Tensor
) -> None:
    made = compile(model, x, "onnxruntime")
    assert made.choice == "onnxruntime"
    for batch in (x, x[:1], torch.cat([x, x])):
        got, want = made(batch), model(batch)
        assert list(got) == ["map", "more"]
        assert got["more"][1] is None
        assert torch.allclose(got["map"], want["map"], atol=1e-5)
        assert torch.allclose(got["more"][0], want["more"][0], atol=1e-5)
        assert not got["map"].requires_grad
    assert torch.equal(made(x=x)["map"], made(x)["map"])
    again = copy.deepcopy(made)
    assert torch.equal(again(x)["map"], made(x)["map"])
    with pytest.raises(CompressError, match=r"do not fit[\s\S]*only the batch may differ"):
        made(torch.randn(4, 3, 12, 12))
    with pytest.raises(CompressError, match="must be those of the example"):
        made(x, gain=2.0)


@needs_onnx
def test_auto_takes_what_was_measured_as_fastest(
    int8: nn.Module, x: Tensor, no_inductor: None
) -> None:
    made = compile(int8, x, threads=1)
    rows = {row.backend: row for row in made.table()}
    assert list(rows) == ["native", "onnxruntime", "inductor"]
    assert rows["inductor"].milliseconds is None
    times = {n: row.milliseconds for n, row in rows.items() if row.milliseconds is not None}
    assert set(times) == {"native", "onnxruntime"}
    assert times[made.choice] == min(times.values())
    assert "inductor     left out of this test" in str(made.table())
    ratio = sqnr(int8(x), made(x))
    assert ratio is None or ratio > 25
    assert torch.equal(made(input=x), made(x))
    assert history(made) == history(int8)


def test_a_missing_back_end_is_left_out_with_a_note(
    model: nn.Module, x: Tensor, no_inductor: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    made = compile(model, x)
    assert made.choice == "native"
    assert "needs onnx, onnxscript, onnxruntime" in made.table()[1].note
    with pytest.raises(UnsupportedError, match="pip install"):
        compile(model, x, "onnxruntime")


def test_a_back_end_that_computes_something_else_is_never_chosen(
    model: nn.Module, x: Tensor, no_inductor: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Twice(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return {**model(x), "map": 2 * model(x)["map"]}

    monkeypatch.setattr(choose, "native", lambda model, x: Twice())
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UnsupportedError, match="no back end runs this model"):
        compile(model, x)
    with pytest.raises(CompressError, match="native: computes something else"):
        compile(model, x, "native")


def test_native_is_a_copy_in_eval_mode_that_lays_images_out_for_itself(x: Tensor) -> None:
    torch.manual_seed(0)
    model = Net().train()
    made = compile(model, x, "native")
    assert model.training
    assert model.second.weight.is_contiguous()
    want = model.eval()(x)["map"]
    assert torch.allclose(made(x)["map"], want, atol=1e-5)
    with torch.no_grad():
        model.first.weight.zero_()
    assert torch.allclose(made(x)["map"], want, atol=1e-5)


def test_a_model_that_needs_plain_memory_keeps_it(x: Tensor, no_inductor: None) -> None:
    class Viewing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.head = nn.Conv2d(3, 4, 3), nn.Linear(256, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            return self.head(x.view(x.shape[0], -1))

    model = Viewing().eval()
    for backend in ("native", "auto"):
        made = compile(model, x, backend)
        assert torch.allclose(made(x), model(x), atol=1e-5)
        assert torch.allclose(made(x[:1]), model(x[:1]), atol=1e-5)


def test_whatever_a_back_end_raises_is_told(
    model: nn.Module, x: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> nn.Module:
        raise KeyError("no such kernel")

    monkeypatch.setattr(choose, "inductor", broken)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    made = compile(model, x)
    assert made.choice == "native"
    assert made.table()[2].note == "cannot run this model: KeyError: 'no such kernel'"
    with pytest.raises(UnsupportedError, match="inductor: cannot run this model: KeyError"):
        compile(model, x, "inductor")


@pytest.mark.parametrize("backend", ["native", "auto"])
def test_inputs_that_the_model_does_not_take(backend: Any, model: nn.Module) -> None:
    with pytest.raises(CompressError, match="x: the model cannot run on it"):
        compile(model, torch.randn(2, 4, 9, 9), backend)


@needs_onnx
def test_code_that_cannot_be_exported_is_left_out_in_silence(
    x: Tensor, no_inductor: None, capfd: pytest.CaptureFixture[str]
) -> None:
    class Routed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))

        def forward(self, x: Tensor) -> Tensor:
            x = self.body(x)
            return x if x.sum() > 1e9 else 2 * x

    made = compile(quantize(Routed().eval(), [x], "fast"), x)
    assert made.choice == "native"
    assert "cannot be exported: GuardOnDataDependentSymNode" in made.table()[1].note
    assert capfd.readouterr() == ("", "")


def test_a_compiled_model_only_runs(int8: nn.Module, x: Tensor) -> None:
    made = compile(int8, x, "native")
    assert torch.equal(made(x), int8(x))
    assert torch.equal(copy.deepcopy(made)(x), int8(x))
    assert made.eval() is made
    for refused in (made.train, made.state_dict, lambda: made.load_state_dict({})):
        with pytest.raises(UnsupportedError, match="the model that it was made of"):
            refused()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"backend": "onnx-runtime"}, "did you mean 'onnxruntime'"),
        ({"threads": 0}, "0 is not a number of threads"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], match: str, model: nn.Module, x: Tensor) -> None:
    with pytest.raises(CompressError, match=match):
        compile(model, x, **arguments)


@pytest.mark.zoo
def test_inductor_computes_what_the_model_does(model: nn.Module, x: Tensor) -> None:
    try:
        made = compile(model, x, "inductor")
    except UnsupportedError as error:
        pytest.skip(str(error))
    assert torch.allclose(made(x)["map"], model(x)["map"], atol=1e-4)
    assert torch.allclose(made(x[:1])["map"], model(x[:1])["map"], atol=1e-4)


def test_inductor_is_refused_for_int8(int8: nn.Module, x: Tensor) -> None:
    with pytest.raises(UnsupportedError, match="cannot compile the oneDNN calls"):
        compile(int8, x, "inductor")

"""The emitted function: what may be overwritten, and that no text of a program enters it."""

import pytest
import torch
from int8_networks import quantize_whole
from torch import Tensor, nn

from torchcompress.core.errors import CompressError
from torchcompress.quantization import Int8Model
from torchcompress.quantization.emit import emit, infer_shapes
from torchcompress.quantization.value_types import infer_types


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        y = torch.relu(self.a(image))
        return {"sum": torch.relu(self.b(y) + y), "pooled": torch.max_pool2d(y, 2)}


@pytest.fixture
def model() -> Int8Model:
    return quantize_whole(Net().eval(), [torch.randn(4, 3, 8, 8)])


def test_native_equals_reference_and_leaves_its_input(model: Int8Model) -> None:
    x = torch.randn(2, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    kept, types = x.clone(), infer_types(model.program)
    native, reference = (
        emit(model.program, types, model.tensors, (tuple(x.shape),), native)
        for native in (True, False)
    )
    first, again, want = native(x), native(x), reference(x)
    assert torch.equal(x, kept)
    scale = max(op.out.scale for op in model.program.ops if op.out is not None)
    for key in ("sum", "pooled"):
        assert torch.equal(first[key], again[key])
        assert (first[key] - want[key]).abs().max() <= 1.01 * scale


def test_shapes_without_computing(model: Int8Model) -> None:
    types = infer_types(model.program)
    shapes = infer_shapes(model.program, types, model.tensors, ((5, 3, 10, 6),))
    assert set(shapes.values()) == {(5, 3, 10, 6), (5, 3, 5, 3)}
    with pytest.raises(CompressError, match="do not fit"):
        infer_shapes(model.program, types, model.tensors, ((5, 3, 10),))


def test_argument_names_are_not_code() -> None:
    x = torch.randn(2, 3, 8, 8)
    model = quantize_whole(Net().eval(), [x])
    data = model.program_json()
    data["inputs"][0][0] = "x):\n raise SystemExit\ndef f("
    hostile = Int8Model.from_program(data, model.tensors)
    assert torch.equal(hostile(x)["sum"], model(x)["sum"])

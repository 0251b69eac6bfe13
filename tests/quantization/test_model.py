import copy
import io
import pickle

import pytest
import torch
from int8_networks import quantize_whole
from torch import nn

from torchcompress.core.errors import CompressError, UnsupportedError
from torchcompress.quantization import Int8Model


@pytest.fixture
def model() -> Int8Model:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)]
    return quantize_whole(nn.Sequential(*layers).eval(), [torch.randn(8, 3, 9, 9)])


x = torch.linspace(-1, 1, 3 * 3 * 9 * 9).view(3, 3, 9, 9)


def test_copies_before_and_after_packing(model: Int8Model) -> None:
    before = copy.deepcopy(model)
    want = model(x)
    after = copy.deepcopy(model)
    pickled = pickle.loads(pickle.dumps(model))
    for other in (before, after, copy.deepcopy(after), pickled, model.reference()):
        assert torch.equal(other(x), want)
    with torch.no_grad():
        after.tensors["0.weight"].zero_()
    after.load_state_dict(after.state_dict())
    assert not torch.equal(after(x), want)
    assert torch.equal(model(x), want)


def test_state_dict_round_trip_through_a_file(model: Int8Model) -> None:
    want = model(x)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = Int8Model.from_program(
        model.program_json(), {name: torch.ones_like(t) for name, t in model.tensors.items()}
    )
    other(x)
    other.load_state_dict(torch.load(file))
    assert torch.equal(other(x), want)


def test_a_state_dict_of_other_grids_is_refused(model: Int8Model) -> None:
    data = model.program_json()
    grid = next(op["out"] for op in data["ops"] if op["out"] is not None)
    grid[0] *= 2
    other = nn.Sequential(Int8Model.from_program(data, model.tensors))
    state = {name: tensor + 1 for name, tensor in nn.Sequential(model).state_dict().items()}
    want = other(x)
    assert not torch.equal(model(x), want)
    with pytest.raises(CompressError, match="another int8 program, whose grids it does not hold"):
        other.load_state_dict({**state, "0._extra_state": model.get_extra_state()})
    assert torch.equal(other(x), want)
    del state["0._extra_state"]
    with pytest.raises(RuntimeError, match=r'Missing key.*"0\._extra_state"'):
        other.load_state_dict(state)


@pytest.mark.parametrize("assign", [False, True])
def test_a_parent_that_loads_has_the_weights_packed_anew(model: Int8Model, assign: bool) -> None:
    parent = nn.Sequential(model)
    parent(x)
    loaded = {name: tensor.clone() for name, tensor in parent.state_dict().items()}
    loaded["0.layers.0/weight"].zero_()
    parent.load_state_dict(loaded, assign=assign)
    assert torch.equal(parent(x), copy.deepcopy(model)(x))


def test_it_holds_integers_and_no_parameters(model: Int8Model) -> None:
    assert list(model.parameters()) == []
    assert {t.dtype for n, t in model.tensors.items() if n.endswith("weight")} == {torch.int8}
    assert model.parameter_count == 3 * 8 * 9 + 8 + 8 * 2 + 2


def test_more_shapes_than_are_kept_packed(model: Int8Model) -> None:
    sizes = [9, 10, 11, 12, 13, 14, 9]
    images = {size: torch.randn(1, 3, size, size) for size in sizes}
    want = {size: model.reference()(image) for size, image in images.items()}
    for size in sizes:
        torch.testing.assert_close(model(images[size]), want[size], rtol=0, atol=0.02)


def test_inputs_that_do_not_fit(model: Int8Model) -> None:
    with pytest.raises(CompressError, match=r"inputs of shape \[1, 5, 9, 9\] do not fit"):
        model(torch.randn(1, 5, 9, 9))
    with pytest.raises(TypeError, match="takes the inputs input"):
        model(x, x)
    with pytest.raises(TypeError, match="floating-point"):
        model(torch.zeros(1, 3, 9, 9, dtype=torch.uint8))
    assert torch.equal(model(input=x), model(x))


def test_its_dtypes_stay(model: Int8Model) -> None:
    want = model(x)
    with pytest.raises(UnsupportedError, match="keeps its dtypes"):
        model.half()
    assert torch.equal(model.to("cpu")(x.double()), want)


def test_no_gradient_flows(model: Int8Model) -> None:
    assert not model(x.clone().requires_grad_()).requires_grad

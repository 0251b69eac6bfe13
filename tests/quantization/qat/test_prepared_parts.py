"""Models that cannot be read as one program are prepared by their largest readable parts."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import torchcompress as tc
from torchcompress.core.errors import UnsupportedError
from torchcompress.quantization import PartlyInt8Model
from torchcompress.quantization.qat.prepared import Prepared, quantizers_in

Train = Callable[..., nn.Module]
CONFIG = tc.QATConfig(placement="all")


def block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class Looking(nn.Module):
    """Decides on a value, and gives a head lists of maps."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.last = block(3, 8), Head(), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        if x.sum() < 0:
            x = -x
        return self.last(self.head([x, F.avg_pool2d(x, 2)]))


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = block(8, 8)
        self.drop = nn.Dropout(0.1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        return self.drop(torch.stack([self.conv(m).mean((2, 3)) for m in maps]).sum(0))


@pytest.fixture
def prepared(images: Tensor) -> nn.Module:
    return tc.prepare_qat(Looking(), images, CONFIG)


def test_each_part_is_prepared_and_the_host_stays(prepared: nn.Module) -> None:
    assert type(prepared) is Looking
    parts = {path for path, module in prepared.named_modules() if isinstance(module, Prepared)}
    assert parts == {"body", "head", "last"}
    assert isinstance(prepared.get_submodule("head"), Head)
    keys = [key for key in prepared.state_dict() if "fake_quantizers" not in key]
    assert keys == list(Looking().state_dict())


def test_a_layer_that_runs_twice_in_a_part_has_two_ranges(prepared: nn.Module) -> None:
    (head,) = [q for q in quantizers_in(prepared) if q.path == "head"]
    # Both maps come in, and no more than one weight is rounded.
    assert len(head.evaluated.inputs["head.conv.0"]) == 2
    assert len(set(head.evaluated.inputs["head.conv.0"])) == 2


def test_parts_train_and_convert(
    prepared: nn.Module, images: Tensor, train: Train, tmp_path: Path
) -> None:
    before = copy.deepcopy(prepared.state_dict())
    train(prepared, images)
    for name, parameter in prepared.named_parameters():
        assert not torch.equal(parameter, before[name]), name
    assert all(q.norms_frozen and not q.ranges.observing for q in quantizers_in(prepared))
    int8 = tc.convert(prepared)
    assert isinstance(int8, PartlyInt8Model)
    assert {row.name for row in int8.table() if row.precision == "int8"} == {
        "body.0",
        "head.conv.0",
        "head.conv.0#2",
        "last",
    }
    with torch.no_grad():
        want = prepared(images)
        assert (int8.reference()(images) - want).abs().max() < 0.05 * want.std()
    assert not any("fake_quantizers" in key for key in int8.state_dict())
    tc.save(int8, tmp_path / "model.tcz")
    loaded = tc.load(tmp_path / "model.tcz", model=Looking())
    assert torch.equal(loaded(images), int8(images))


def test_copies_of_a_host_train_on(prepared: nn.Module, images: Tensor, train: Train) -> None:
    others = [copy.deepcopy(prepared), pickle.loads(pickle.dumps(prepared))]
    trained = []
    for model in (prepared, *others):
        torch.manual_seed(1)
        trained.append(train(model, images).state_dict())
    for state in trained[1:]:
        torch.testing.assert_close(state, trained[0], rtol=0, atol=0)


def test_a_prepared_part_is_not_prepared_again(prepared: nn.Module, images: Tensor) -> None:
    with pytest.raises(UnsupportedError, match="body: is prepared for"):
        tc.prepare_qat(prepared, images)
    with pytest.raises(UnsupportedError, match=r"(?s)body: is prepared.*tc\.convert"):
        tc.quantize(prepared, [images])

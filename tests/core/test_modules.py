import copy
from typing import Any

import pytest
import torch
from torch import nn

from torchcompress.core.modules import (
    copied,
    eval_mode,
    match_names,
    named_tensors,
    undisturbed,
    unwrapped,
)
from torchcompress.errors import CompressError


def test_eval_mode_gives_every_module_its_own_mode_back() -> None:
    model = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2))
    model[1].eval()
    with eval_mode(model):
        assert not any(m.training for m in model.modules())
    assert [m.training for m in model.modules()] == [True, True, False]


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls: torch.Tensor
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.calls = self.calls + 1
        return x + torch.rand(1)


def test_a_model_and_the_random_state_are_left_as_they_were() -> None:
    model = Counting()
    buffer = model.calls
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    with undisturbed(model):
        model(torch.zeros(1))
    assert model.calls is buffer
    assert float(buffer) == 0
    assert torch.equal(torch.rand(1), expected)


def test_globs_match_dotted_names_and_a_miss_is_an_error() -> None:
    names = ["layer1.0.conv1", "layer1.0.conv2", "fc"]
    assert match_names(["fc", "layer1.*"], names, "exclude") == names
    with pytest.raises(CompressError, match=r"exclude: 'fcc' matches nothing[\s\S]*'fc'"):
        match_names(["layer1.*", "fcc"], names, "exclude")


def test_a_tied_tensor_is_named_once() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    model[1].weight = model[0].weight
    assert list(named_tensors(model)) == ["0.weight"]


def compiled(model: nn.Module) -> nn.Module:
    wrapper = torch.compile(model)
    assert isinstance(wrapper, nn.Module)
    return wrapper


@pytest.mark.usefixtures("process_group")
def test_wrappers_are_seen_through() -> None:
    model = nn.Linear(2, 2)
    parallel = nn.parallel.DistributedDataParallel(model)
    assert unwrapped(parallel) is model
    assert unwrapped(nn.DataParallel(compiled(model))) is model
    assert unwrapped(compiled(parallel)) is model
    assert unwrapped(model) is model


def test_what_cannot_be_looked_into_is_refused() -> None:
    with pytest.raises(CompressError, match=r"torch\.nn\.Module, not function"):
        unwrapped(lambda x: x)  # pyright: ignore[reportArgumentType]


class Packed(nn.Linear):
    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "note": "packed"}


class Alone(nn.Linear):
    def __deepcopy__(self, memo: dict[int, Any]) -> "Alone":
        return self


class Linked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.tied, self.norm = nn.Linear(2, 2), nn.Linear(2, 2), nn.BatchNorm1d(2)
        self.inner = nn.ModuleList([Packed(2, 2), Alone(2, 2)])
        self.tied.weight = self.first.weight
        self.hidden = [self.first, nn.Linear(1, 1)]
        self.shape, self.sizes = (2, (3, [4])), {"a": [5]}
        self.norm.register_forward_hook(self.note)
        self.register_buffer("doubled", torch.ones(2, requires_grad=True) * 2, persistent=False)

    def note(self, *_: object) -> None:
        self.sizes["a"].append(6)


def test_a_copy_is_what_deepcopy_gives() -> None:
    model = Linked()
    plain = Linked()
    plain.doubled = torch.full((2,), 2.0)
    plain.load_state_dict(model.state_dict())
    for found, original in ((copied(model), model), (copy.deepcopy(plain), plain)):
        assert found.tied.weight is found.first.weight
        assert found.first.weight is not original.first.weight
        assert torch.equal(found.first.weight, model.first.weight)
        assert found.hidden[0] is found.first
        assert found.hidden[1] is not original.hidden[1]
        assert found.inner[0].note == "packed"
        assert found.inner[1] is original.inner[1]
        assert found.shape == original.shape
        assert found.shape[1][1] is not original.shape[1][1]
        assert "doubled" not in found.state_dict()
        assert not found.doubled.requires_grad
        found.norm(torch.zeros(2, 2))
        assert found.sizes == {"a": [5, 6]}
        assert original.sizes == {"a": [5]}
        found.first.register_forward_hook(found.note)
        assert not original.first._forward_hooks

import pytest
import torch
from torch import nn

from torchcompress.core.modules import (
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

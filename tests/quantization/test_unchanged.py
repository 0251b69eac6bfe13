from typing import Any

import torch
from torch import Tensor, nn

from torchcompress.quantization.unchanged import Attributes, attributes_kept, unchanged


class Storing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.register_buffer("buffer", torch.zeros(3))
        self.plain, self.written, self.calls = torch.zeros(3), torch.zeros(3), 0
        self.seen: list[Any] = [1]
        self.named: dict[str, Any] = {"a": 1}

    def forward(self, x: Tensor) -> Tensor:
        self.buffer = self.buffer + 1
        self.plain = self.plain + 1
        self.written += 1
        self.calls += 1
        self.seen.append(x)
        self.named["b"] = x
        self.made = x
        return self.norm(x)


def test_a_model_is_as_before_whatever_its_forward_pass_stores() -> None:
    model = Storing()
    vars_before = dict(vars(model))
    state = {key: value.clone() for key, value in model.state_dict().items()}
    random = torch.get_rng_state()
    with unchanged(model):
        assert not model.norm.training
        model(torch.randn(4, 3))
        assert model.calls == 1
    assert vars(model) == vars_before
    assert all(vars(model)[key] is value for key, value in vars_before.items())
    assert (model.seen, model.named, model.calls) == ([1], {"a": 1}, 0)
    assert model.written.tolist() == [0, 0, 0]
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    assert model.norm.training
    assert torch.equal(torch.get_rng_state(), random)


def test_what_was_replaced_is_told_by_path() -> None:
    model = nn.Sequential(Storing())
    before = Attributes(model)
    with attributes_kept(model):
        model(torch.randn(4, 3))
        found = before.replaced(by=lambda value: True)
        tensors = before.replaced(by=lambda value: isinstance(value, Tensor))
    assert found.keys() == {"0.buffer", "0.plain", "0.calls", "0.seen", "0.named"}
    assert tensors.keys() == {"0.buffer", "0.plain"}
    assert found["0.calls"] == 0
    assert before.replaced(by=lambda value: True) == {}

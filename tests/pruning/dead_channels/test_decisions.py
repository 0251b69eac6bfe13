"""Models whose code decides on numbers of their input: a constant may be another one then."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import torchcompress as tc


class Deciding(nn.Module):
    def __init__(self, decide: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.decide = nn.Linear(3, 8), nn.Linear(8, 3), decide

    def forward(self, x: Tensor, count: Tensor) -> Tensor:
        return self.b(self.decide(self.a(x), torch.cat([x.flatten(), count.flatten()])))


DECISIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "branch": lambda y, of: y + 1 if of.sum() > 0 else y,
    "number": lambda y, of: y * of.mean().item(),
    "integer": lambda y, of: y + int(of.round().long().max()),
    "count": lambda y, of: y + len(of[of > 0]),
}


@pytest.mark.parametrize("name", DECISIONS)
def test_a_constant_that_another_input_changes_stays(name: str) -> None:
    torch.manual_seed(0)
    model = Deciding(DECISIONS[name]).eval()
    with torch.no_grad():
        model.a.weight[:2] = 0
        model.b.weight[:, 5] = 0
    smaller = tc.remove_dead_channels(model, (-torch.rand(1, 3), torch.tensor([-1])))
    assert smaller.a.out_features == 7  # Only what nothing hears.
    for x, count in ((torch.rand(4, 3), [5]), (-torch.rand(4, 3), [-9]), (torch.randn(2, 3), [0])):
        expected = model(x, torch.tensor(count))
        assert torch.allclose(smaller(x, torch.tensor(count)), expected, atol=1e-5)


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 8), nn.Linear(8, 3)
        self.register_buffer("scale", torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x) * self.get_buffer("scale").item())


def test_a_number_that_is_not_of_the_input_changes_nothing() -> None:
    torch.manual_seed(0)
    model = Scaled().eval()
    with torch.no_grad():
        model.a.weight[:2] = 0
    smaller = tc.remove_dead_channels(model, torch.rand(1, 3))
    assert smaller.a.out_features == 6
    x = torch.randn(5, 3)
    assert torch.allclose(smaller(x), model(x), atol=1e-5)

"""What a run hides from its output: numbers that decide, and results kept elsewhere."""

import pytest
import torch
from torch import Tensor, nn

from torchcompress import Target
from torchcompress.errors import UnsupportedError
from torchcompress.pruning import plan_channels


class CountedByWidth(nn.Module):
    """Takes as many rows, or the rows above a number, as its width says."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.first, self.last = kind, nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        size = y.square().sum(-1)
        if self.kind == "topk":
            rows = size.topk(y.shape[-1] // 4, 1)[1]
            return self.last(y.gather(1, rows[..., None].expand(-1, -1, y.shape[-1])).sum(1))
        return self.last((y * (size > 0.3 * y.shape[-1])[..., None]).sum(1))


@pytest.mark.parametrize("kind", ["topk", "threshold"])
def test_a_decision_on_a_number_of_channels_freezes_them(kind: str) -> None:
    torch.manual_seed(0)
    model, x = CountedByWidth(kind).eval(), torch.randn(2, 12, 8)
    with pytest.raises(UnsupportedError, match=r"first fails its trial.*basis of"):
        plan_channels(model, x, Target(channels=0.5), round_to=1)


class KeepsAResult(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.aux, self.last = nn.Conv2d(3, 16, 1), nn.Linear(16, 3), nn.Conv2d(16, 8, 1)
        self.answer = torch.zeros(0)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x).relu()
        self.answer = self.aux(y.mean((2, 3)))
        return self.last(y)


def test_a_result_kept_in_an_attribute_keeps_its_channels() -> None:
    model, x = KeepsAResult(), torch.randn(2, 3, 8, 8)
    plan = plan_channels(model, x, Target(channels=0.5), round_to=1)
    assert plan.frozen["aux"] == "is read by nothing: it may be a result of its own"
    pruned = plan.apply(model)
    pruned(x)
    assert pruned.get_submodule("first").out_channels == 8
    assert pruned.answer.shape == (2, 3)

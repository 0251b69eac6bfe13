import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from torchcompress.core.modules import named_tensors
from torchcompress.errors import CalibrationError, CompressError, TraceError
from torchcompress.pruning.importance import Scores, Variance

Score = Callable[..., Scores]


class Branches(nn.Module):
    """One layer read by two, one of them through a flattening."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.left = nn.Conv2d(4, 2, 1)
        self.right = nn.Linear(4 * 9, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.left(x).mean((2, 3)) + self.right(x.relu().flatten(1))


def test_a_score_is_the_variance_of_what_is_read_over_all_batches(score: Score) -> None:
    torch.manual_seed(0)
    model = Branches().double()
    data = [torch.randn(n, 3, 5, 5, dtype=torch.float64) + n for n in (2, 7)]
    found = score(model, data[0], Variance(reduce="sum", normalize="none"), data)["stem"]
    with torch.no_grad():
        made = torch.cat([model.stem(x) for x in data])
    left = made.movedim(1, 0).flatten(1).var(1, correction=0)
    right = made.relu().var(0, correction=0).mean((1, 2))
    assert found == pytest.approx((left + right).numpy())


def test_labels_are_not_needed_and_the_model_is_left_as_it_was(score: Score) -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 1)
    ).train()
    before = copy.deepcopy(model)
    x = torch.randn(2, 3, 4, 4)
    assert score(model, x, Variance(), [x])["0"] == pytest.approx(
        score(model, x, Variance(), [(x, torch.zeros(2))])["0"]
    )
    for name, tensor in named_tensors(model).items():
        assert torch.equal(tensor, named_tensors(before)[name])
    assert all(module.training for module in model.modules())


def test_bad_data_is_refused(score: Score) -> None:
    class Fickle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            y = self.a(x)
            return self.b(y if len(x) == 2 else self.b(y))

    model, x = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2)), torch.randn(2, 4)
    with pytest.raises(CompressError, match="needs batches"):
        score(model, x, Variance())
    with pytest.raises(CalibrationError, match="yielded nothing"):
        score(model, x, Variance(), [])
    with pytest.raises(TraceError, match="data batch 1: the model takes another path"):
        score(Fickle(), x, Variance(), [x, torch.randn(3, 4)])

import pytest
import torch
from torch import Tensor, nn

from torchcompress.graph import trace
from torchcompress.graph.course import Course
from torchcompress.graph.replay import run_on_course, run_with_channels_zeroed


class Choosing(nn.Module):
    """Keeps the two rows that score highest and answers with their numbers too."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.score = nn.Linear(4, 8), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.score(self.body(x).relu()).flatten()
        rows = scores.topk(2).indices
        return x[rows], rows


@pytest.fixture
def x() -> Tensor:
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


def test_another_run_takes_the_decisions_of_the_traced_one(x: Tensor) -> None:
    torch.manual_seed(0)
    model = Choosing()
    seen = trace(model, x)
    rows = model(x)[1]
    other = x.flip(0)
    assert not torch.equal(model(other)[1], rows)
    course = Course(seen.decisions)
    assert torch.equal(run_on_course(model, other, seen, course)[1], rows)
    scores = model.score(model.body(other).relu()).flatten()
    assert torch.allclose(course.operands[""]["aten.topk number 1"][0], scores)
    zeroed, _ = run_with_channels_zeroed(model, other, seen, set(), Course(seen.decisions))
    assert torch.equal(zeroed[1], rows)


def test_a_run_of_other_shapes_decides_for_itself(x: Tensor) -> None:
    model = Choosing()
    seen = trace(model, x)
    rows = run_on_course(model, x[:3], seen, Course(seen.decisions))[1]
    assert torch.equal(rows, model(x[:3])[1])


def test_decisions_about_each_channel_are_left_to_the_run(x: Tensor) -> None:
    class Gating(nn.Sequential):
        def forward(self, input: Tensor) -> Tensor:
            y = self[0](input)
            return self[1](y * (y > 0))

    model = Gating(nn.Linear(4, 8), nn.Linear(8, 2))
    assert trace(model, x).decisions == {}


def test_the_coarsest_rounding_of_a_run_is_known(x: Tensor) -> None:
    class Half(nn.Sequential):
        def forward(self, input: Tensor) -> Tensor:
            return self[1](self[0](input).bfloat16().float())

    model = Half(nn.Linear(4, 8), nn.Linear(8, 2))
    seen = trace(model, x)
    course = Course(seen.decisions)
    run_with_channels_zeroed(model, x, seen, set(), course)
    assert course.rounding == torch.finfo(torch.bfloat16).eps

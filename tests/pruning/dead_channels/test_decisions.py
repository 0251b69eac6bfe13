import torch
from torch import Tensor, nn

import torchcompress as tc


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        return self.b(y + 1 if x.sum() > 0 else y)


def test_a_constant_that_another_path_changes_stays() -> None:
    torch.manual_seed(0)
    model = Branching().eval()
    with torch.no_grad():
        model.a.weight[:2] = 0
        model.b.weight[:, 5] = 0
    smaller = tc.remove_dead_channels(model, -torch.rand(1, 3))
    assert smaller.a.out_features == 7  # Only what nothing hears.
    for x in (torch.rand(4, 3), -torch.rand(4, 3)):
        assert torch.allclose(smaller(x), model(x), atol=1e-6)

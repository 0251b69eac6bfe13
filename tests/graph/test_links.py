"""The operations that coupled a group are those that its code calls."""

import torch
from torch import Tensor, nn

from torchcompress.graph import channel_groups, trace
from torchcompress.graph.links import coupling_operations


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 16, 1), nn.BatchNorm2d(16)
        self.branch = nn.Conv2d(16, 16, 1)
        self.halves = nn.Conv2d(16, 32, 1)
        self.out = nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.stem(x))
        y = y + self.branch(y)
        left, right = self.halves(y).chunk(2, 1)
        return self.out(left.mul_(right))


def test_each_operation_is_named_with_the_dimensions_that_it_coupled() -> None:
    seen = trace(Net().eval(), torch.randn(1, 3, 4, 4))
    groups = channel_groups(seen)
    found = dict(
        zip([group.name for group in groups], coupling_operations(seen, groups), strict=True)
    )
    assert found["stem"]["add"] == [("stem.weight", 0), ("branch.weight", 0)]
    assert ("norm.running_var", 0) in found["stem"]["native_batch_norm"]
    assert set(found["stem"]["convolution"]) == {
        ("stem.bias", 0), ("stem.weight", 0), ("branch.bias", 0), ("branch.weight", 0),
        ("branch.weight", 1), ("halves.weight", 1),
    }  # fmt: skip
    assert found["halves"]["mul"] == [("halves.weight", 0)]
    assert found["out"].keys() == {"convolution"}


def test_groups_of_a_convolution_are_a_reshape() -> None:
    model = nn.Sequential(nn.Conv2d(3, 16, 1), nn.Conv2d(16, 16, 1, groups=4), nn.Conv2d(16, 4, 1))
    seen = trace(model.eval(), torch.randn(1, 3, 4, 4))
    (group, *_) = channel_groups(seen)
    (found, *_) = coupling_operations(seen, [group])
    assert found["reshape"] == [("0.weight", 0), ("1.weight", 0)]

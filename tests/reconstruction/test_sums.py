import pytest
import torch
from torch import Tensor, nn

from torchcompress import Target
from torchcompress.pruning import plan_channels
from torchcompress.reconstruction import resolve_consumers
from torchcompress.reconstruction.capture import Calibration, solvable_layers
from torchcompress.reconstruction.sums import find_sums, see_sum

torch.manual_seed(0)
BATCHES = [torch.randn(32, 3, 5, 5) for _ in range(4)]


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


class Residual(nn.Module):
    """A stem, a block whose skip has a convolution of its own, a gated sum and a head."""

    def __init__(self, *, norm: bool = True) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.skip = nn.Conv2d(8, 6, 1)
        self.branch = nn.Conv2d(8, 6, 1, bias=not norm)
        self.norm = nn.BatchNorm2d(6) if norm else nn.Identity()
        self.gate = nn.Conv2d(6, 6, 1)
        self.head = nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        out = self.norm(self.branch(x))
        out += self.skip(x)
        gated = self.gate(out)
        return self.head((gated + gated.sigmoid()).relu())


@pytest.mark.parametrize("norm", [True, False])
def test_the_last_layer_of_a_sum_is_found_with_what_it_is_added_to(norm: bool) -> None:
    model = Residual(norm=norm).eval()
    calibration = Calibration(BATCHES, model)
    layers = solvable_layers(model, calibration)
    sums = find_sums(model, layers, calibration)
    assert list(sums) == ["skip"]
    layer = next(layer for layer in layers if layer.name == "skip")
    seen, other = see_sum(model, layer, sums["skip"], calibration, 1)
    hidden = model.stem(BATCHES[1]).relu()
    assert torch.allclose(seen.x, hidden)
    assert torch.allclose(seen.y, model.skip(hidden))
    assert other is not None
    assert torch.allclose(other, model.norm(model.branch(hidden)))


class Stream(nn.Module):
    """A branch that can take up whatever its skip loses."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.thin = nn.Conv2d(8, 6, 1)
        self.branch = nn.Conv2d(8, 6, 1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.head = nn.Conv2d(6, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head((self.thin(x.detach()) + self.norm(self.branch(x))).relu())


def test_a_branch_takes_up_what_its_skip_lacks() -> None:
    dense = Stream().eval()
    nn.init.uniform_(dense.norm.weight, 0.5, 2)
    pruned = Stream().eval()
    pruned.load_state_dict(dense.state_dict())
    with torch.no_grad():
        pruned.thin.weight.mul_(0.3)
        pruned.get_parameter("thin.bias").add_(1)
    kept = pruned.thin.weight.clone()
    wanted = dense(BATCHES[0])
    removed = {"branch.weight": {1: [0]}}  # So that the fit begins with the branch.
    assert resolve_consumers(dense, pruned, removed, BATCHES) < 1e-6
    assert torch.equal(pruned.thin.weight, kept)
    assert torch.allclose(pruned(BATCHES[0]), wanted, atol=1e-3)


def test_a_repeated_channel_of_a_stream_is_restored_through_the_sum() -> None:
    dense = Residual().eval()
    with torch.no_grad():
        for name in ("stem.weight", "stem.bias"):
            tensor = dense.get_parameter(name)
            tensor[4:] = 2 * tensor[:4]
    plan = plan_channels(
        dense, BATCHES[0][:1], Target(macs=0.9), round_to=1, ratios={"stem": 0.5},
        importance="reconstruction", data=BATCHES, exclude=["gate", "branch"],
    )  # fmt: skip
    pruned = plan.apply(dense)
    assert pruned.get_parameter("stem.weight").shape[0] == 4
    resolve_consumers(dense, pruned, plan.removed, BATCHES)
    assert torch.allclose(pruned(BATCHES[0]), dense(BATCHES[0]), atol=1e-3)

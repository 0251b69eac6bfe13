import torch
from torch import Tensor, nn

from torchcompress.graph import trace
from torchcompress.pruning.dead_channels.reads import Read, Sink, find_reads


def reads_of(model: nn.Module, x: Tensor) -> dict[str, Read]:
    model.eval()
    return {read.layer: read for read in find_reads(model, x, trace(model, x))}


def test_a_layer_reads_constants_and_what_varies_and_knows_where_they_can_go() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        model.get_parameter("0.weight")[2] = 0
        model.get_parameter("0.bias")[2] = 1.5
        model.get_parameter("2.weight")[1, 0] = 0
    read = reads_of(model, torch.randn(5, 3))["2"]
    assert read.varies.tolist() == [True, True, False, True]
    assert read.values[2] == 1.5
    assert read.wired.tolist() == [[True] * 4, [False, True, True, True]]
    assert read.sink == Sink("2.bias", 1)
    assert read.needed_by(torch.tensor([True, True]).numpy()).tolist() == [True, True, False, True]
    assert read.needed_by(torch.tensor([False, True]).numpy()).tolist() == [
        False,
        True,
        False,
        True,
    ]


def test_the_mean_of_a_norm_takes_a_constant_only_where_nothing_else_reads_the_layer() -> None:
    class Net(nn.Module):
        def __init__(self, skip: bool) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1, bias=False)
            self.norm, self.skip = nn.BatchNorm2d(4), skip

        def forward(self, x: Tensor) -> Tensor:
            y = self.b(self.a(x).relu())
            return self.norm(y) + y if self.skip else self.norm(y)

    x = torch.randn(2, 3, 4, 4)
    assert reads_of(Net(False), x)["b"].sink == Sink("norm.running_mean", -1)
    read = reads_of(Net(True), x)["b"]
    assert read.sink is None
    assert read.why(0) == "b reads the constant, which has no bias, nor a batch norm of its own"


def test_a_shared_bias_takes_no_constant() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    model.register_module("1", model.get_submodule("2"))
    assert "whose bias is shared or computed" in reads_of(model, torch.randn(2, 3))["1"].why(0)


def test_a_branch_of_training_only_takes_no_constant_either() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head, self.side = nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> list[Tensor]:
            y = self.body(x).relu()
            return [self.head(y), self.side(y)] if self.training else [self.head(y)]

    read = reads_of(Branching(), torch.randn(2, 3))
    assert read["head"].sink == Sink("head.bias", 1)
    assert read["side"].sink is None
    assert read["side"].why(0) == "only training reads the constant"

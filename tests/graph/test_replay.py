import pytest
import torch
from torch import Tensor, nn

from torchcompress.errors import TraceError
from torchcompress.graph import channel_groups, trace
from torchcompress.graph.replay import run_with_channels_zeroed


def test_a_zeroed_channel_equals_a_zeroed_slice_of_its_consumer() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 16, 5))
    x = torch.randn(2, 3, 6, 6)
    seen = trace(model, x)
    group = next(g for g in channel_groups(seen) if g.name == "0")
    found, alive = run_with_channels_zeroed(model, x, seen, {int(group.labels[1])})
    assert alive == {int(group.labels[1])}
    with torch.no_grad():
        model.get_parameter("3.weight")[:, 16:32] = 0
        assert torch.allclose(found, model(x), atol=1e-6)


def test_a_channel_that_is_always_zero_is_not_alive() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    with torch.no_grad():
        model.get_parameter("0.weight")[2] = 0
        model.get_parameter("0.bias")[2] = -1
    x = torch.randn(1, 3, 6, 6)
    seen = trace(model, x)
    group = next(g for g in channel_groups(seen) if g.name == "0")
    _, alive = run_with_channels_zeroed(model, x, seen, set(group.labels.tolist()))
    assert int(group.labels[2]) not in alive


def test_what_reads_a_dimension_as_a_whole_runs_without_what_is_gone() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 5))
    nn.init.uniform_(model.get_parameter("1.weight"))
    x = torch.randn(3, 6)
    seen = trace(model, x)
    group = next(g for g in channel_groups(seen) if g.name == "0")
    assert group.inexact == "is read whole by aten.native_layer_norm"
    found, alive = run_with_channels_zeroed(model, x, seen, set(group.labels[[1, 4]].tolist()))
    assert alive == set(group.labels[[1, 4]].tolist())
    kept = [0, 2, 3, 5, 6, 7]
    with torch.no_grad():
        hidden = model[0](x)[:, kept]
        normed = (hidden - hidden.mean(1, keepdim=True)) / hidden.std(1, correction=0, keepdim=True)
        hidden = nn.functional.gelu(normed * model.get_parameter("1.weight")[kept])
        expected = hidden @ model.get_parameter("3.weight")[:, kept].T
        assert torch.allclose(found, expected + model.get_parameter("3.bias"), atol=1e-4)


class Wavering(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(2))
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        for layer in self.layers[: self.calls]:
            x = layer(x.sigmoid() if self.calls == 2 else x)
        return x


@pytest.mark.parametrize("skip", [0, 1])
def test_another_path_than_the_traced_one_is_an_error(skip: int) -> None:
    model = Wavering()
    model.calls = skip
    x = torch.randn(1, 3, 4, 4)
    seen = trace(model, x)
    model.calls = 1 - skip
    with pytest.raises(TraceError, match="another path"):
        run_with_channels_zeroed(model, x, seen, set())

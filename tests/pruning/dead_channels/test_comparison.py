import torch
from torch import nn

from torchcompress.graph import trace
from torchcompress.pruning.dead_channels.comparison import compare_changed

x = torch.zeros(2, 4)


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def test_an_unchanged_model_differs_by_nothing() -> None:
    assert compare_changed(model(), lambda copy: None, x, trace(model(), x)) == (0.0, None)


def test_what_only_noise_shows_is_found_and_the_model_left_as_it_was() -> None:
    def change(copy: nn.Module) -> None:
        weight = copy.get_parameter("0.weight")
        weight.data = weight.data + 1

    own = model()
    difference, failure = compare_changed(own, change, x, trace(own, x))
    assert difference > 1e-3
    assert failure is not None
    assert torch.equal(own.get_parameter("0.weight"), model().get_parameter("0.weight"))


def test_rounding_is_told_from_a_difference() -> None:
    def change(copy: nn.Module) -> None:
        for name, moved in (("0.bias", 1e5), ("2.bias", -1e5)):
            bias = copy.get_parameter(name)
            bias.data = bias.data + moved

    own = nn.Sequential(nn.Linear(4, 1), nn.Identity(), nn.Linear(1, 1))
    own.get_parameter("2.weight").data.fill_(1)
    assert compare_changed(own, change, x, trace(own, x))[1] is None

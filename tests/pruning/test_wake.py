import pytest
import torch
from torch import nn

from torchcompress.core.modules import named_tensors
from torchcompress.pruning.wake import awakened, settled, settled_on_cut


def test_nothing_is_constant_or_tiny_and_the_original_is_left_alone() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.GroupNorm(2, 8), nn.Conv2d(8, 8, 1)
    )
    scale = nn.Parameter(torch.full((8, 1, 1), 1e-6))
    model.register_parameter("scale", scale)
    nn.init.zeros_(model.get_parameter("3.weight"))
    before = {name: tensor.detach().clone() for name, tensor in named_tensors(model).items()}
    awake = named_tensors(awakened(model))
    for name, tensor in named_tensors(model).items():
        assert torch.equal(tensor, before[name])
        if tensor.is_floating_point():
            assert awake[name].unique().numel() > 1
            assert awake[name].abs().max() > 1e-2
    gains = awake["0.weight"] / before["0.weight"]
    assert torch.allclose(gains, gains.mean())
    gain = awake["0.weight"].detach().square().mean().sqrt() * 3**0.5
    assert float(gain) == pytest.approx(1.0)
    assert awake["1.running_var"].min() > 0


def test_a_deep_copy_keeps_its_numbers_small_and_its_norms_apart() -> None:
    torch.manual_seed(0)
    layers = [
        module
        for _ in range(40)
        for module in (nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16))
    ]
    model, x = nn.Sequential(*layers).eval(), torch.randn(2, 16, 8, 8)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    awake = settled(awakened(model), lambda copy: copy(x))
    assert 0.05 < float(awake(x).detach().std()) < 20
    means = awake.state_dict()["79.running_mean"]
    assert means.unique().numel() == 16
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_norms_settle_on_what_a_cut_leaves() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6), nn.Conv2d(6, 4, 1)).eval()
    x, keep = torch.randn(4, 3, 5, 5), [0, 2, 5]

    def cut(model: nn.Module) -> None:
        for name, tensor in named_tensors(model).items():
            if name.startswith(("0.", "1.r", "1.w", "1.b")):
                tensor.data = tensor.data[keep].clone()
        weight = model.get_parameter("2.weight")
        weight.data = weight.data[:, keep].clone()

    settled_model = settled_on_cut(model, cut, lambda copy: copy(x))
    mean, var = (settled_model.get_buffer(f"1.running_{kind}") for kind in ("mean", "var"))
    made = model[0](x).detach()
    middle, spread = made.mean((0, 2, 3)), made.var((0, 2, 3), correction=0)
    wide = spread.maximum(middle.square()).sqrt()
    assert ((mean - middle).abs() <= 0.5 * wide)[keep].all()
    assert (var[keep] >= 0.5 * wide.square()[keep] * (1 - 1e-5)).all()
    gone = [1, 3, 4]
    assert torch.equal(mean[gone], torch.zeros(3))
    assert torch.equal(var[gone], torch.ones(3))
    assert torch.equal(model.get_buffer("1.running_mean"), torch.zeros(6))

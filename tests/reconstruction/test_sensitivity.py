import copy

import pytest
import torch
from torch import Tensor, nn

from torchcompress.reconstruction.capture import Calibration, solvable_layers
from torchcompress.reconstruction.sensitivity import output_sensitivity


def jacobian_squares(model: nn.Module, module: nn.Module, x: Tensor) -> Tensor:
    """Returns the summed squared derivatives of all outputs by each output of a module, by row."""
    found: list[Tensor] = []
    hook = module.register_forward_hook(lambda *a: found.append(a[2]) or a[2].clone())
    outputs = model(x)
    hook.remove()
    rows = [torch.autograd.grad(z, found[0], retain_graph=True)[0] for z in outputs.flatten()]
    return torch.stack(rows).square().sum(0)


def test_it_is_the_mean_squared_jacobian() -> None:
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, groups=2), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(16, 3)
    )
    x = torch.randn(8, 2, 4, 4)
    calibration = Calibration([x] * 200, model)
    found = output_sensitivity(model, solvable_layers(model, calibration), calibration)
    expected = jacobian_squares(model, model[0], x).mean((0, 2, 3)).reshape(2, 2).double()
    assert torch.allclose(found["0"], expected, rtol=0.2)
    assert torch.allclose(found["3"], torch.ones(1, 3).double())


class Attention(nn.Module):
    """Attention with the projections as layers of their own, or as `nn.MultiheadAttention`."""

    def __init__(self, fused: nn.MultiheadAttention, *, split: bool) -> None:
        super().__init__()
        self.fused, self.split = fused, split
        self.parts = nn.ModuleList(nn.Linear(8, 8) for _ in range(4))
        with torch.no_grad():
            for index, part in enumerate(self.parts):
                assert isinstance(part, nn.Linear)
                own = fused.in_proj_weight[8 * index : 8 * index + 8]
                part.weight.copy_(own if index < 3 else fused.out_proj.weight)
                part.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        if not self.split:
            return self.fused(x, x, x)[0].tanh()
        q, k, v = (part(x).unflatten(2, (2, 4)).transpose(1, 2) for part in self.parts[:3])
        context = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.parts[3](context.transpose(1, 2).flatten(2)).tanh()


def test_projections_of_an_attention_are_as_sensitive_as_layers() -> None:
    fused = nn.MultiheadAttention(8, 2, batch_first=True)
    found = []
    for split in (False, True):
        model = Attention(copy.deepcopy(fused), split=split)
        calibration = Calibration([torch.ones(3, 5, 8).cumsum(1).sin()], model)
        layers = solvable_layers(model, calibration)
        found.append(list(output_sensitivity(model, layers, calibration).values()))
    assert len(found[0]) == 4
    for ours, theirs in zip(*found, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-3)


def test_the_model_is_as_before() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).train()
    model[0].requires_grad_(False)
    calibration = Calibration([torch.randn(5, 3)], model)
    layers = solvable_layers(model, calibration)
    before = copy.deepcopy(model.state_dict())
    output_sensitivity(model, layers, calibration)
    assert model.training
    assert [p.requires_grad for p in model.parameters()] == [False] * 2 + [True] * 4
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())


class Apart(nn.Module):
    """A layer whose output reaches no output."""

    def __init__(self) -> None:
        super().__init__()
        self.lost, self.used = nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        self.lost(x)
        return self.used(x), {"count": torch.tensor(1)}


@pytest.mark.parametrize("seed", [0, 1])
def test_a_layer_that_moves_nothing_has_none(seed: int) -> None:
    model = Apart()
    calibration = Calibration([torch.randn(5, 2)], model)
    layers = solvable_layers(model, calibration)
    found = output_sensitivity(model, layers, calibration, seed)
    assert not found["lost"].any()
    assert torch.equal(found["used"], torch.ones(1, 2).double())

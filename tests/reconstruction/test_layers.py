"""Every kind of layer, seen as matrices, gives what the module gives."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torchcompress.reconstruction import layers as layers_module
from torchcompress.reconstruction.capture import Calibration, solvable_layers, watch
from torchcompress.reconstruction.layers import Layer, Seen

torch.manual_seed(0)

CONVOLUTIONS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "1d": (nn.Conv1d(4, 6, 3, stride=2, padding=1), (2, 4, 9)),
    "2d": (nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)), (2, 4, 9, 8)),
    "3d": (nn.Conv3d(2, 3, 2, padding=1), (2, 2, 4, 3, 5)),
    "groups": (nn.Conv2d(4, 6, 3, groups=2, dilation=2, padding=2, bias=False), (2, 4, 7, 7)),
    "depthwise": (nn.Conv2d(4, 8, 3, groups=4, stride=2, padding=1), (2, 4, 7, 7)),
    "same": (nn.Conv2d(4, 6, (3, 5), padding="same"), (2, 4, 7, 7)),
    "reflect": (nn.Conv2d(4, 6, 3, padding=2, padding_mode="reflect"), (2, 4, 7, 7)),
    "circular": (nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"), (2, 4, 7, 7)),
    "one image": (nn.Conv2d(4, 6, 3), (4, 7, 7)),
    "transposed": (nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1), (2, 4, 5, 6)),
    "transposed groups": (
        nn.ConvTranspose2d(4, 6, (3, 2), (2, 3), groups=2, output_padding=1, dilation=(1, 2)),
        (2, 4, 5, 6),
    ),
    "transposed 1d": (nn.ConvTranspose1d(4, 6, 2, padding=3, stride=3), (2, 4, 8)),
    "linear": (nn.Linear(5, 3), (2, 4, 5)),
    "one vector": (nn.Linear(5, 3), (5,)),
}  # fmt: skip


def seen_in(model: nn.Module, x: Tensor) -> list[tuple[Layer, Seen]]:
    found: list[tuple[Layer, Seen]] = []
    calibration = Calibration([x], model)
    layers = solvable_layers(model, calibration)
    watch(model, layers, calibration, 0, lambda layer, seen: found.append((layer, seen)))
    return found


def joined(layer: Layer, seen: Seen) -> tuple[Tensor, Tensor]:
    chunks = list(layer.rows(seen))
    return torch.cat([x for x, _ in chunks], 1), torch.cat([y for _, y in chunks], 1)


@pytest.mark.parametrize("kind", CONVOLUTIONS)
@pytest.mark.parametrize("chunk", [1, 1 << 24])
def test_rows_times_the_matrix_are_the_outputs(
    kind: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers_module, "CHUNK", chunk)
    module, shape = CONVOLUTIONS[kind]
    x = torch.randn(shape)
    ((layer, seen),) = seen_in(nn.Sequential(module), x)
    rows, outputs = joined(layer, seen)
    product = rows @ layer.weight.mT
    if layer.bias is not None:
        product = product + layer.bias[:, None]
    assert torch.allclose(product, outputs, atol=1e-5)
    assert outputs.numel() == module(x).numel()


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_matrices_are_written_back(kind: str) -> None:
    module, shape = copy.deepcopy(CONVOLUTIONS[kind])
    before = module.get_parameter("weight").detach().clone()
    ((layer, _),) = seen_in(nn.Sequential(module), torch.randn(shape))
    layer.write(2 * layer.weight)
    assert torch.equal(module.get_parameter("weight"), 2 * before)


def test_the_input_channel_is_the_innermost_column() -> None:
    module = nn.Conv2d(4, 2, 3, padding=1)
    x = torch.randn(2, 4, 5, 5)
    ((layer, seen),) = seen_in(nn.Sequential(module), x)
    rows, _ = joined(layer, seen)
    unfolded = F.unfold(x, 3, padding=1).unflatten(1, (4, 9))
    assert torch.equal(rows[0], unfolded.permute(0, 3, 2, 1).reshape(50, 36))


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_the_projections_of_an_attention(same: bool, bias: bool) -> None:
    kdim, vdim = (8, 8) if same else (6, 5)
    attention = nn.MultiheadAttention(8, 2, bias=bias, batch_first=True, kdim=kdim, vdim=vdim)
    if bias:
        nn.init.normal_(attention.in_proj_bias)
        nn.init.normal_(attention.out_proj.bias)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = attention

        def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return self.attention(q, key=k, value=v, need_weights=False)[0]

    net = Net()
    k, v = torch.randn(3, 5, kdim), torch.randn(3, 5, vdim)
    inputs = (torch.randn(3, 4, 8), k, v)
    calibration = Calibration([(inputs,)], net)
    layers = {layer.name: layer for layer in solvable_layers(net, calibration)}
    assert list(layers) == [f"attention.{part}" for part in ("q", "k", "v", "out")]
    seen: dict[str, Seen] = {}
    watch(net, list(layers.values()), calibration, 0, lambda f, s: seen.update({f.name: s}))
    q, k, v = (
        seen[f"attention.{part}"].y.unflatten(2, (2, 4)).transpose(1, 2) for part in ("q", "k", "v")
    )
    context = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    assert torch.allclose(context, seen["attention.out"].x, atol=1e-5)
    assert torch.allclose(seen["attention.out"].y, net(*inputs), atol=1e-5)
    for layer in layers.values():
        before = layer.weight
        layer.write(before + 1)
        assert torch.equal(layer.weight, before + 1)
        x, y = joined(layer, seen[layer.name])
        product = x @ before.mT + (0 if layer.bias is None else layer.bias)
        assert torch.allclose(product, y, atol=1e-5)

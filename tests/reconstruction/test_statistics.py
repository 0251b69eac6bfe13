import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from torchcompress.reconstruction.capture import Calibration, solvable_layers
from torchcompress.reconstruction.statistics import Moments, collect

torch.manual_seed(0)

X = torch.randn(60, 3, 5, dtype=torch.float64) + 1
Y = torch.randn(60, 3, 2, dtype=torch.float64) - 2


def summed(parts: int) -> Moments:
    moments = Moments.zeros(3, 5, 2, torch.device("cpu"))
    for x, y in zip(X.chunk(parts), Y.chunk(parts), strict=True):
        moments.add(x.transpose(0, 1), y.transpose(0, 1))
    return moments


@pytest.mark.parametrize("parts", [1, 7])
def test_sums_equal_those_written_out(parts: int) -> None:
    moments = summed(parts)
    assert moments.count == 60
    assert torch.allclose(moments.x, X.sum(0))
    assert torch.allclose(moments.y, Y.sum(0))
    assert torch.allclose(moments.xx, torch.einsum("ngi,ngj->gij", X, X))
    assert torch.allclose(moments.xy, torch.einsum("ngi,ngo->gio", X, Y))
    assert torch.allclose(moments.yy, Y.square().sum(0))


def test_centered_sums_are_those_of_centered_rows() -> None:
    x, y = X - X.mean(0), Y - Y.mean(0)
    centered = summed(1).centered()
    assert torch.allclose(centered.xx, torch.einsum("ngi,ngj->gij", x, x))
    assert torch.allclose(centered.xy, torch.einsum("ngi,ngo->gio", x, y))
    assert torch.allclose(centered.yy, y.square().sum(0))


@pytest.mark.parametrize("constant", [None, torch.randn(3, 2)])
def test_the_error_is_that_of_the_rows(constant: torch.Tensor | None) -> None:
    weight = torch.randn(3, 2, 5)
    outputs = torch.einsum("goi,ngi->ngo", weight.double(), X)
    outputs = outputs if constant is None else outputs + constant
    expected = (outputs - Y).square().sum(0)
    assert torch.allclose(summed(1).error(weight, constant), expected)


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv2d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2),
        nn.Conv2d(4, 4, 3, padding=1, groups=4),
        nn.Conv2d(4, 6, (1, 3), stride=(2, 1)),
    ],
    ids=["groups", "depthwise", "flat"],
)
def test_the_gram_of_a_convolution_equals_an_explicit_unfold(module: nn.Conv2d) -> None:
    batches = [torch.randn(n, 4, 9, 8) for n in (5, 2)]
    net = nn.Sequential(module)
    calibration = Calibration(batches, net)
    moments = collect(net, solvable_layers(net, calibration), calibration)["0"]
    assert not isinstance(module.padding, str)
    rows = torch.cat(
        [
            F.unfold(x, module.kernel_size, module.dilation, module.padding, module.stride)
            .unflatten(1, (module.groups, 4 // module.groups, -1))
            .permute(1, 0, 4, 3, 2)
            .flatten(3)
            .flatten(1, 2)
            for x in batches
        ],
        1,
    ).double()
    outputs = torch.cat([net(x).detach().movedim(1, -1).flatten(0, 2) for x in batches]).double()
    wanted = outputs.unflatten(1, (module.groups, -1)).transpose(0, 1)
    assert torch.allclose(moments.xx, rows.mT @ rows, atol=1e-3)
    assert torch.allclose(moments.xy, rows.mT @ wanted, atol=1e-3)
    assert float(moments.error(torch.zeros_like(moments.xy.mT)).sum()) == pytest.approx(
        float(outputs.square().sum()), rel=1e-5
    )


def test_a_layer_called_twice_gives_the_rows_of_both_calls() -> None:
    shared = nn.Linear(3, 3)
    net = nn.Sequential(shared, nn.ReLU(inplace=True), shared)
    x = torch.randn(6, 3)
    calibration = Calibration([x], net)
    moments = collect(net, solvable_layers(net, calibration), calibration)["0"]
    rows = torch.cat([x, shared(x).relu()]).detach()
    assert moments.count == 12
    assert torch.allclose(moments.xx[0], (rows.T @ rows).double(), atol=1e-4)


def test_the_outputs_of_a_reference_are_wanted() -> None:
    dense = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))
    other = copy.deepcopy(dense)
    nn.init.normal_(other.get_parameter("0.weight"))
    x = torch.randn(6, 3)
    calibration = Calibration([x[:4], x[4:]], dense)
    layers = solvable_layers(other, calibration)
    twins = solvable_layers(dense, calibration)
    moments = collect(other, layers, calibration, (dense, twins))
    rows = other[0](x).relu().detach()
    assert torch.allclose(moments["2"].xx[0], (rows.T @ rows).double(), atol=1e-4)
    assert torch.allclose(moments["2"].xy[0], (rows.T @ dense(x)).detach().double(), atol=1e-4)


def test_wide_layers_are_summed_in_half_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchcompress.reconstruction.statistics.WIDEST_DOUBLE", 4)
    assert summed(1).xx.dtype == torch.float32

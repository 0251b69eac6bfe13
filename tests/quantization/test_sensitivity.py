"""Which layers cost most, where that is known."""

import json

import torch
from torch import Tensor, nn

import torchcompress as tc
from torchcompress.quantization.sqnr import sqnr


class Net(nn.Module):
    """The second layer reads one huge channel beside small ones: its input loses them."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.a(x))
        spread = torch.cat([1000 * torch.ones_like(x[:, :1]), x[:, 1:]], 1)
        return self.c(torch.relu(self.b(spread - 0.0)))


def test_the_layer_that_loses_most_comes_first() -> None:
    torch.manual_seed(0)
    model = Net().eval()
    with torch.no_grad():
        model.b.weight[:, 0] = 0
    data = [torch.randn(16, 8) for _ in range(4)]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = tc.sensitivity(model, data)
    assert found.rows[0].name == "b"
    assert {row.name for row in found} == {"a", "b", "c"}
    assert len(found) == 3
    noises = [row.noise for row in found]
    assert noises == sorted(noises, reverse=True)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    again = json.loads(json.dumps(found.to_json()))
    assert [row["noise"] for row in again] == noises
    assert str(found).splitlines()[1].startswith("b")


def test_the_error_is_that_of_a_model_with_one_int8_layer() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4)).eval()
    data = [torch.randn(8, 6) for _ in range(2)]
    found = tc.sensitivity(model, data)
    for name, other in (("0", "2"), ("2", "0")):
        config = tc.QuantizationConfig(
            ranges="minmax",
            equalization=False,
            smoothing=False,
            bias_correction=False,
            rounding="nearest",
            placement="all",
            exclude=(other,),
        )
        alone = tc.quantize(model, data, config)
        want = sqnr(model(data[0]), alone(data[0]))
        row = next(row for row in found if row.name == name)
        assert row.sqnr_db is not None
        assert want is not None
        assert abs(row.sqnr_db - want) < 1e-3

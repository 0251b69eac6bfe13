"""Multiply-accumulates, counted on a run, against closed forms."""

import pytest
import torch
from torch import Tensor, nn

from torchcompress.graph.running import plain_kernels
from torchcompress.quantization.calibrate import Batches, ProgramModule
from torchcompress.quantization.macs import Watch, op_macs, samples_in
from torchcompress.quantization.sources import folded_tensors
from torchcompress.quantization.trace import trace


@pytest.mark.parametrize(
    ("module", "shape", "macs"),
    [
        (nn.Conv2d(4, 8, 3, groups=2), (2, 4, 8, 8), 2 * 36 * 8 * 2 * 9),
        (nn.ConvTranspose2d(4, 8, 3, stride=2), (2, 4, 8, 8), 2 * 64 * 4 * 8 * 9),
        (nn.Conv3d(2, 3, 2), (1, 2, 3, 3, 3), 8 * 3 * 2 * 8),
        (nn.Linear(4, 5), (2, 3, 4), 6 * 20),
        (nn.LSTM(4, 6, num_layers=2), (7, 2, 4), 14 * (24 * 10 + 24 * 12)),
        (nn.BatchNorm2d(4), (2, 4, 8, 8), 0),
    ],
)
def test_of_a_module(module: nn.Module, shape: tuple[int, ...], macs: int) -> None:
    with torch.no_grad(), plain_kernels(), Watch() as watch:
        module.eval()(torch.randn(shape))
    assert watch.macs == macs


def test_of_attention() -> None:
    attention, x = nn.MultiheadAttention(8, 2).eval(), torch.randn(5, 2, 8)
    projections, products = 10 * 8 * 24 + 10 * 8 * 8, 2 * 2 * 5 * 5 * 4 * 2
    for weights in (True, False):
        with torch.no_grad(), plain_kernels(), Watch() as watch:
            attention(x, x, x, need_weights=weights)
        assert watch.macs == projections + products


def test_who_is_read() -> None:
    used, idle = nn.Linear(3, 3), nn.Linear(3, 3)
    with torch.no_grad(), Watch() as watch:
        used(torch.randn(1, 3))
    assert id(used.weight) in watch.read
    assert id(idle.weight) not in watch.read


def test_of_each_operation_of_a_program_for_one_sample() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 1), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.conv(x).relu().mean((2, 3)))

    model = Net().eval()
    program, sources = trace(model)
    module = ProgramModule(program, folded_tensors(sources, model.state_dict()))
    batches = Batches([torch.randn(6, 3, 5, 5)], None, torch.device("cpu"))
    names = {op.output: op.name for op in program.ops}
    found = {names[value]: macs for value, macs in op_macs(module, batches).items()}
    assert found == {"conv": 25 * 12, "fc": 8}
    assert module.observe is None


def test_samples_of_a_batch() -> None:
    images = torch.zeros(4, 3, 8, 8)
    for batch in (
        images,
        (images, images),
        [images, torch.zeros(4)],
        {"x": images},
        (torch.tensor(1.5), images),
        ([images[0]] * 4,),
        ([images[0]] * 4, [{}] * 4),
    ):
        assert samples_in(batch) == 4
    for batch in ((), torch.tensor(1.0), (torch.zeros(0, 3),), (torch.tensor(1.0),), object()):
        assert samples_in(batch) == 1

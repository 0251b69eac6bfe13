import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from torchcompress.quantization import interpreter
from torchcompress.quantization.fuse import fuse
from torchcompress.quantization.program import Program
from torchcompress.quantization.sources import folded_tensors
from torchcompress.quantization.trace import trace


def fused(model: nn.Module, x: Tensor, excluded: tuple[str, ...] = ()) -> Program:
    """Fuses a model, checks that nothing it computes has changed, and returns the program."""
    model.eval()
    program, sources = trace(model)
    shapes: dict[str, tuple[int, ...]] = {}
    tensors = folded_tensors(sources, model.state_dict())
    with torch.no_grad():
        interpreter.run(
            program, tensors, [x], observe=lambda op, v, made: shapes.update({v: tuple(made.shape)})
        )
        result, sources = fuse(program, sources, shapes, excluded)
        got = interpreter.run(result, folded_tensors(sources, model.state_dict()), [x])
        torch.testing.assert_close(got, model(x))
    return result


class Residual(nn.Module):
    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(4, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv2(F.relu6(self.conv1(x))) + x)


def test_sum_and_activation_join_the_convolution() -> None:
    program = fused(Residual(), torch.randn(2, 4, 5, 5))
    assert [op.kind for op in program.ops] == ["conv2d", "conv2d"]
    assert [op.args["activation"] for op in program.ops] == ["relu6", "relu"]
    assert program.ops[1].inputs[1] == program.inputs[0][1]


def test_a_broadcast_sum_stays_apart() -> None:
    program = fused(Residual(1), torch.randn(2, 4, 5, 5))
    assert [op.kind for op in program.ops] == ["conv2d", "conv2d", "add", "activation"]


def test_an_excluded_layer_takes_no_sum() -> None:
    program = fused(Residual(), torch.randn(2, 4, 5, 5), ("conv2",))
    assert [op.kind for op in program.ops] == ["conv2d", "conv2d", "add", "activation"]


def test_a_second_reader_keeps_norm_and_activation_apart() -> None:
    class Read(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            y = self.conv(x)
            z = self.bn(y)
            return y, z, F.relu(z)

    program = fused(Read(), torch.randn(2, 4, 5, 5))
    assert [op.kind for op in program.ops] == ["conv2d", "affine", "activation"]


def test_a_value_added_to_itself() -> None:
    class Double(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            return y + y

    assert [op.kind for op in fused(Double(), torch.randn(1, 4, 3, 3)).ops] == ["conv2d", "add"]


def test_two_convolutions_summed_fuse_one() -> None:
    class Fork(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return torch.sigmoid(self.a(x) + self.b(x))

    program = fused(Fork(), torch.randn(1, 4, 3, 3))
    assert [op.name for op in program.ops] == ["b", "a", "sigmoid"]


def test_a_norm_over_rows_is_not_folded_into_columns() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    nn.init.uniform_(model[1].weight)  # pyright: ignore[reportArgumentType]
    program = fused(model, torch.randn(2, 4, 3))
    assert [op.kind for op in program.ops] == ["linear", "affine"]


@pytest.mark.parametrize(
    ("layer", "norm", "shape"),
    [
        (nn.Conv1d(4, 6, 3, groups=2), nn.BatchNorm1d(6), (2, 4, 7)),
        (nn.Conv2d(4, 6, 3, bias=False), FrozenBatchNorm2d(6, eps=0.1), (2, 4, 7, 5)),
        (nn.Conv3d(4, 6, 3), nn.BatchNorm3d(6, eps=0.1), (2, 4, 5, 4, 3)),
        (nn.ConvTranspose1d(4, 6, 3, groups=2), nn.BatchNorm1d(6), (2, 4, 7)),
        (nn.ConvTranspose2d(4, 6, 3, groups=2), nn.BatchNorm2d(6), (2, 4, 7, 5)),
        (nn.ConvTranspose3d(4, 6, 2, bias=False), nn.BatchNorm3d(6), (2, 4, 3, 4, 2)),
        (nn.Linear(4, 6), nn.BatchNorm1d(6, affine=False), (3, 4)),
        (nn.Conv2d(4, 6, 1), nn.InstanceNorm2d(6, track_running_stats=True), (2, 4, 3, 3)),
    ],
    ids=str,
)
def test_norms_fold_into_every_layer(
    layer: nn.Module, norm: nn.Module, shape: tuple[int, ...]
) -> None:
    for tensor in (*norm.parameters(), *norm.buffers()):
        if tensor.is_floating_point():
            nn.init.uniform_(tensor, 0.5, 1.5)
    program = fused(nn.Sequential(layer, norm, nn.ReLU()), torch.randn(shape))
    transposed = isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d)
    assert len(program.ops) == (2 if transposed else 1)


def test_one_layer_under_two_norms_is_two_layers() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 1)
            self.bn1, self.bn2 = nn.BatchNorm2d(4, eps=0.1), nn.BatchNorm2d(4, eps=1.0)

        def forward(self, x: Tensor) -> Tensor:
            return self.bn1(self.conv(x)) * self.bn2(self.conv(x))

    program = fused(Shared(), torch.randn(2, 4, 3, 3))
    assert [op.layer for op in program.ops] == ["conv", "conv#2", None]

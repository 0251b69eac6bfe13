"""Views, indexing, joining: the program equals the function at other sizes too."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torchcompress.core.errors import UnsupportedError
from torchcompress.quantization.program import Program
from torchcompress.quantization.trace import trace

Traced = Callable[..., Program]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x[:, 1:, ..., -1],
        lambda x: x[..., None, 1:3] + x[0].sum((0, 1, 2), keepdim=True),
        lambda x: x[:, :, : x.shape[3] // 2, 1::2],
        lambda x: x[None, :, 0] + x[:, -1],
        lambda x, m: x[:, m.index],
        lambda x, m: torch.index_select(x, 1, m.index),
        lambda x, m: x.permute(1, 0, 2, 3)[m.index],
        lambda x, m: m.gate[m.index] + x[:, :3, 0, :1],
        lambda x, m: x[:, :, :4, :5] + m.table,
        lambda x: x.split(2, dim=1)[1] - x.split(2, dim=1)[0],
        lambda x: torch.cat(x.split([1, 3], dim=1)[::-1], 1),
        lambda x: torch.stack(x.chunk(2, 1), dim=2).flatten(1, 2),
        lambda x: torch.cat(torch.tensor_split(x, (1, 3), dim=1)[::2], 1),
        lambda x: torch.stack([x, x * 2], -1).unbind(-1)[1],
        lambda x: x.unsqueeze(2).expand(-1, -1, 3, -1, x.size(3)).flatten(1, 2),
        lambda x: x.repeat(1, 2, 1, x.shape[0]) + x.repeat_interleave(2, dim=1).mean(),
        lambda x: x.sum((2, 3), keepdim=True).squeeze(-1).squeeze(2) + x.amax((2, 3)),
        lambda x: torch.roll(x.flip(2), (1, -1), (2, 3)).swapaxes(2, 3).transpose(-1, -2),
        lambda x: F.pad(x, (1, 0, x.size(2) % 4, 2)) + 1,
        lambda x: F.pad(F.pad(x, (1, 1, 0, 2), mode="replicate"), (0, 1), value=2.5),
        lambda x: F.pad(x, (1, 2, 1, 0), mode="reflect") + 0.5,
        lambda x: F.pixel_unshuffle(F.pixel_shuffle(x, 2), 2) + F.channel_shuffle(x, 2),
        lambda x: x.view(x.size(0), x.size(1), -1).permute(0, 2, 1).contiguous(),
        lambda x: x.reshape((x.size(0) * 4, x.size(2), -1)).mT,
        lambda x: x.clone().add_(1.0) * x,
        lambda x: x.to(x.dtype).float().detach().type_as(x),
    ],
)
def test_functions(function: Callable[..., Any], traced: Traced) -> None:
    traced(function, torch.randn(2, 4, 4, 6), torch.randn(1, 4, 6, 8))


@pytest.mark.parametrize(
    "module",
    [
        *(nn.ZeroPad2d((1, 2, 0, 1)), nn.ConstantPad2d(1, 3.0), nn.ReflectionPad2d(1)),
        *(nn.ReplicationPad2d((0, 1, 2, 0)), nn.CircularPad2d(1), nn.Flatten(2, -1)),
        *(nn.PixelShuffle(2), nn.PixelUnshuffle(2), nn.ChannelShuffle(2)),
    ],
    ids=repr,
)
def test_modules(module: nn.Module, traced: Traced) -> None:
    traced(nn.Sequential(module), torch.randn(2, 4, 4, 6), torch.randn(1, 4, 8, 2))


@pytest.mark.parametrize(
    ("function", "match"),
    [
        (lambda x: x[x > 0], "getitem: indexing a tensor with this cannot"),
        (lambda x: x[[0, 1]], "indexing a tensor with this"),
        (lambda x: x[:, ::-1], "a slice with these bounds"),
        (lambda x: x.reshape(x.shape), "reshape of a shape"),
        (lambda x: x.shape[:-1], "a part of a shape"),
        (lambda x: x.squeeze(), "squeeze of whatever has size 1"),
        (lambda x: x.roll(1), "roll of a flattened tensor"),
        (lambda x: torch.tensor_split(x, 2), "tensor_split into sections"),
        (lambda x: x.repeat_interleave(2), "repeat_interleave without a dimension"),
        (lambda x: x.to(torch.float64), "a conversion to another dtype"),
        (lambda x: x.half(), "the operation half"),
        (lambda x: x.unbind(0) + x, "a"),
        (lambda x: x.data, "the attribute 'data'"),
    ],
)
def test_what_is_refused(function: Callable[..., Any], match: str) -> None:
    class Module(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return function(x)

    with pytest.raises(UnsupportedError, match=match):
        trace(Module())

"""Folding against the unfolded modules."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from torchcompress.quantization import interpreter
from torchcompress.quantization.fuse import fuse
from torchcompress.quantization.sources import Source, Sources, folded_tensors
from torchcompress.quantization.trace import trace

CASES: list[tuple[nn.Module, tuple[int, ...], int]] = [
    (nn.Sequential(nn.Conv2d(4, 6, 3, bias=True), nn.BatchNorm2d(6, eps=1e-3)), (2, 4, 5, 5), 0),
    (nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.BatchNorm2d(6)), (2, 4, 5, 5), 0),
    (
        nn.Sequential(nn.ConvTranspose2d(4, 6, 3, groups=2, stride=2), nn.BatchNorm2d(6)),
        (2, 4, 5, 5),
        0,
    ),
    (nn.Sequential(nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6)), (3, 4), 0),
    (nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.BatchNorm2d(4)), (2, 4, 3, 3), 0),
    (nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)), (2, 4, 3, 3), 1),
]


@pytest.mark.parametrize(("model", "shape", "norms_left"), CASES)
def test_a_fold_is_exact(
    model: nn.Module,
    shape: tuple[int, ...],
    norms_left: int,
    lively: Callable[[nn.Module], nn.Module],
) -> None:
    lively(model)
    x = torch.randn(shape)
    program, sources = trace(model)
    shapes = {op.output: shape for op in program.ops}
    fused, sources = fuse(program, sources, shapes)
    assert sum(op.kind == "affine" for op in fused.ops) == norms_left
    with torch.no_grad():
        got = interpreter.run(fused, folded_tensors(sources, model.state_dict()), [x])
        torch.testing.assert_close(got, model(x), rtol=1e-5, atol=1e-5)


def test_equal_sources_share_a_key() -> None:
    sources = Sources()
    first, second = Source((1, 1), "a.weight"), Source((1, 1), "b.weight")
    assert [sources.key("a", first), sources.key("a", second), sources.key("a", first)] == [
        "a",
        "a#2",
        "a",
    ]

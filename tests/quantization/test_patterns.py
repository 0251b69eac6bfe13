import pytest
import torch
from torch import Tensor, nn

from torchcompress.quantization import interpreter
from torchcompress.quantization.trace import trace


class Shuffle(nn.Module):
    def __init__(self, variant: str) -> None:
        super().__init__()
        self.variant = variant

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.size()
        if self.variant == "rows":
            return x.view(n, 2, c // 2, h, w).transpose(1, 3).reshape(n, c, h, w)
        if self.variant == "swapped":
            return x.view(n, 2, c // 2, w, h).transpose(1, 2).reshape(n, c, h, w)
        if self.variant == "merged":
            return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, h, c, w)
        if self.variant == "inferred":
            return x.view(n, 2, -1, h, w).transpose(2, 1).reshape(n, -1, h, w)
        return x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


@pytest.mark.parametrize(
    ("variant", "found"),
    [("plain", 1), ("inferred", 1), ("rows", 0), ("swapped", 0), ("merged", 0)],
)
def test_only_true_shuffles_are_replaced(variant: str, found: int) -> None:
    program, _ = trace(Shuffle(variant))
    assert [op.kind for op in program.ops].count("channel_shuffle") == found
    for shape in ((2, 6, 4, 3), (1, 4, 2, 5)):
        x = torch.randn(shape)
        assert torch.equal(interpreter.run(program, {}, [x]), Shuffle(variant)(x))

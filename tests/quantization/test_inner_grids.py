from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torchcompress.errors import ArtifactError
from torchcompress.quantization import Int8Model, QuantizationConfig, quantize
from torchcompress.quantization.parse import parse_program

ALL = QuantizationConfig(placement="all")


class Endings(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.Conv2d(3, 8, 3, padding=1)
        self.swish = nn.Conv2d(8, 8, 3, padding=1)
        self.sum = nn.Conv2d(8, 8, 1)
        self.floating = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(x).relu()
        y = self.sum(F.silu(self.swish(x)))
        return self.floating(torch.relu(x + y)).sigmoid()


def inner_ranges(model: Int8Model) -> dict[str, tuple[float, float] | None]:
    return {
        op.name.split(".")[0]: None
        if op.inner is None
        else (
            -op.inner.zero_point * op.inner.scale,
            (255 - op.inner.zero_point) * op.inner.scale,
        )
        for op in model.program.ops
        if op.kind == "conv2d"
    }


def test_it_spans_what_a_convolution_makes_before_its_sum_and_activation() -> None:
    model, x = Endings().eval(), torch.randn(8, 3, 10, 10)
    quantized = quantize(model, [x], ALL)
    assert isinstance(quantized, Int8Model)
    seen: dict[str, Tensor] = {}
    for name, module in model.named_children():
        module.register_forward_hook(lambda m, i, y, name=name: seen.update({name: y}))
    with torch.no_grad():
        model(x)
    found = inner_ranges(quantized)
    assert found.pop("relu") is None
    assert set(found) == {"swish", "sum", "floating"}
    for name, ends in found.items():
        assert ends is not None
        width = (seen[name].max() - seen[name].min()).item()
        assert ends[0] == pytest.approx(seen[name].min().item(), abs=0.03 * width)
        assert ends[1] == pytest.approx(seen[name].max().item(), abs=0.03 * width)


def test_it_is_kept_in_json_and_refused_where_it_has_no_meaning() -> None:
    model = quantize(Endings().eval(), [torch.randn(2, 3, 8, 8)], ALL)
    assert isinstance(model, Int8Model)
    data = model.program.to_json()
    assert parse_program(data) == model.program
    wrong = [replace(op, inner=op.out) if op.kind == "quantize" else op for op in model.program.ops]
    with pytest.raises(ArtifactError, match="takes no inner grid"):
        parse_program(model.program.with_ops(wrong).to_json())

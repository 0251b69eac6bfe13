"""Drafts: what stays float, and which values are stored as integers."""

import torch
from torch import Tensor, nn

from torchcompress.quantization.calibrate import Batches, first_outputs
from torchcompress.quantization.config import QuantizationConfig
from torchcompress.quantization.quantize_part import Draft, draft_part, finish
from torchcompress.quantization.trace import trace


class Residual(nn.Module):
    """conv, conv + input, relu, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.last = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        x = torch.relu(self.second(x) + x)
        return self.last(x.mean((2, 3)))


def drafted(model: nn.Module, batches: Batches) -> Draft:
    program, sources = trace(model)
    want = first_outputs(model, batches)
    config = QuantizationConfig(ranges="minmax")
    return draft_part(program, sources, model.state_dict(), batches, want, config, "model")


def test_with_every_layer_back_in_float_it_computes_what_the_model_computes() -> None:
    model, x = Residual().eval(), torch.randn(2, 3, 6, 6)
    batches = Batches([x], None, torch.device("cpu"))
    draft = drafted(model, batches)
    assert len(draft.int8) == 3
    all_float = draft.kept_float(dict.fromkeys(draft.int8, "for a test"))
    assert not all_float.stored
    plan = finish(all_float, batches)
    assert {(row.precision, row.reason) for row in plan.rows} == {("float", "for a test")}
    torch.testing.assert_close(plan.build(model.state_dict())[0](x), model(x))


def test_one_layer_back_in_float_leaves_the_others_as_they_were() -> None:
    model, x = Residual().eval(), torch.randn(2, 3, 6, 6)
    batches = Batches([x], None, torch.device("cpu"))
    draft = drafted(model, batches)
    summed = next(op for op in draft.program.ops if op.name == "second")
    partly = draft.kept_float({summed.output: "for a test"})
    plan = finish(partly, batches)
    assert [row.precision for row in plan.rows] == ["int8", "float", "int8"]
    before, after = (part.int8_model()[0].tensors for part in (draft, partly))
    for name in ("first.weight", "first.scale", "last.weight", "last.scale"):
        assert torch.equal(before[name], after[name])
    assert after["second.weight"].dtype == torch.float32

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from torchcompress.quantization.calibrate import Batches, first_outputs
from torchcompress.quantization.config import QuantizationConfig
from torchcompress.quantization.ptq.samples import Samples
from torchcompress.quantization.quantize_part import Draft, draft_part
from torchcompress.quantization.trace import trace

Prepare = Callable[[nn.Module, list[Tensor]], tuple[Draft, Samples]]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def prepare() -> Prepare:
    """Drafts a model with plain calibration, and keeps what reached it."""

    def make(model: nn.Module, data: list[Tensor]) -> tuple[Draft, Samples]:
        program, sources = trace(model.eval())
        batches = Batches(data, None, torch.device("cpu"))
        config = QuantizationConfig.preset("fast")
        want = first_outputs(model, batches)
        draft = draft_part(program, sources, model.state_dict(), batches, want, config, "model")
        return draft, Samples.of(draft.float_module(), batches, 2**24)

    return make

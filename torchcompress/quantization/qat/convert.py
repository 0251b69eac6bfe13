"""From a model that was trained with fake quantization to int8."""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor, nn

from torchcompress.core.modules import unwrapped
from torchcompress.quantization.model import Int8Model
from torchcompress.quantization.partly import PartlyInt8Model
from torchcompress.quantization.plan import QuantizationPlan
from torchcompress.quantization.qat.forward import adjustment
from torchcompress.quantization.qat.prepared import FakeQuantizers, quantizers_in
from torchcompress.quantization.quantize_part import Draft, plan_part


def convert(model: nn.Module) -> Int8Model | PartlyInt8Model:
    """Returns the int8 form of a model that `prepare_qat` made; the model is left as it was.

    Its integers are those of the model's forward pass in eval mode: the weights bit for bit, as
    are the grids of activations, whose values agree to one step.

    Args:
        model: A prepared model, trained or not.

    Raises:
        UnsupportedError: The model is not prepared, or its weights are not float32 or not finite.
    """
    model = unwrapped(model)
    found = quantizers_in(model)
    state = model.state_dict()
    parts = {q.path: plan_part(_final_draft(q, state), {}, q.macs) for q in found}
    around = found[0].around
    return QuantizationPlan(parts, around.left, around.split).apply(model)


def _final_draft(quantizers: FakeQuantizers, state: Mapping[str, Tensor]) -> Draft:
    """Returns what becomes of a module with its weights and ranges as they are now."""
    grids = quantizers.ranges.grids()
    return replace(
        quantizers.draft,
        state=state,
        grids={value: grids[index] for value, index in quantizers.classes.items()},
        adjustments={key: adjustment(step.detach()) for key, step in quantizers.steps.items()},
    )

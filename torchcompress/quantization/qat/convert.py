"""From a model that was trained with fake quantization to int8."""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from torchcompress.core.errors import UnsupportedError
from torchcompress.core.modules import unwrapped
from torchcompress.quantization.check_model import FAKE_QUANTIZERS
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
        model: A prepared model, trained or not, or the `AveragedModel` of one.

    Raises:
        UnsupportedError: The model is not prepared, it is only a part of the one that was, or only
            a part of it was, or its weights are not float32 or not finite.
    """
    model = unwrapped(model)
    if isinstance(model, AveragedModel):
        model = unwrapped(model.module)
    found = quantizers_in(model)
    _check_places(model)
    state = model.state_dict()
    parts = {q.path: plan_part(_final_draft(q, state), {}, q.macs) for q in found}
    around = found[0].around
    return QuantizationPlan(parts, around.left, around.split).apply(model)


def _check_places(model: nn.Module) -> None:
    """Checks that each prepared module stands where it stood when it was prepared.

    Its sources and the code around it are known by their paths in the model of that time.
    """
    for path, module in model.named_modules():
        if not isinstance(module, FakeQuantizers):
            continue
        place, was = path.removesuffix(FAKE_QUANTIZERS).removesuffix("."), module.path
        if place == was:
            continue
        outer = place.removesuffix(was).removesuffix(".")
        moved = bool(outer) and ".".join(filter(None, (outer, was))) == place
        raise UnsupportedError(
            f"was prepared as {f'the part {was!r} of a model' if was else 'a model of its own'}",
            where=place or type(model).__name__,
            hint=f"convert {outer!r} by itself and put what comes out in its place"
            if moved
            else "convert the whole model that prepare_qat returned",
        )


def _final_draft(quantizers: FakeQuantizers, state: Mapping[str, Tensor]) -> Draft:
    """Returns what becomes of a module with its weights and ranges as they are now."""
    grids = quantizers.ranges.grids()
    return replace(
        quantizers.draft,
        state=state,
        grids={value: grids[index] for value, index in quantizers.classes.items()},
        adjustments={key: adjustment(step.detach()) for key, step in quantizers.steps.items()},
    )

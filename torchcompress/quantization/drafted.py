"""The parts of a model between calibration and plan."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

from torchcompress.core.errors import UnsupportedError
from torchcompress.core.inputs import Forward
from torchcompress.core.modules import device_of, match_names
from torchcompress.quantization.calibrate import Batches, first_outputs
from torchcompress.quantization.check_model import check_model
from torchcompress.quantization.config import QuantizationConfig
from torchcompress.quantization.left import left_modules, left_rows
from torchcompress.quantization.operations import LAYERS
from torchcompress.quantization.parts import Partition, find_parts
from torchcompress.quantization.plan import QuantizationPlan
from torchcompress.quantization.plan_part import PlanPart, check_weights
from torchcompress.quantization.ptq.improve import improve
from torchcompress.quantization.quantize_part import Draft, draft_part, finish
from torchcompress.quantization.table import Row
from torchcompress.quantization.trials import Trial
from torchcompress.quantization.unchanged import attributes_kept


@dataclass(frozen=True)
class Drafted:
    """The parts of a model on their way to int8.

    Args:
        found: The parts, and the model in eval mode.
        drafts: By path, with the algorithms applied.
        trials: What these did, by path.
        config: How to quantize.
        name: Of the model, for messages.
    """

    found: Partition
    drafts: dict[str, Draft]
    trials: dict[str, tuple[Trial, ...]]
    config: QuantizationConfig
    name: str


def draft_parts(
    model: nn.Module,
    calibration: Iterable[Any],
    config: QuantizationConfig,
    *,
    forward: Forward | None = None,
) -> Drafted:
    """Reads and calibrates a model and applies the algorithms.

    Args and errors are those of `quantize`.
    """
    name = type(model).__name__
    model = check_model(model)
    found = find_parts(model, Batches(calibration, forward, device_of(model)), config.exclude)
    check_globs(found, config)
    state = model.state_dict()
    drafts: dict[str, Draft] = {}
    trials: dict[str, tuple[Trial, ...]] = {}
    for path, part in found.parts.items():
        check_weights(part.sources, state)
        with attributes_kept(model):
            want = first_outputs(found.model.get_submodule(path), part.batches)
        draft = draft_part(
            part.program, part.sources, state, part.batches, want, config, path or name
        )
        drafts[path], trials[path] = improve(draft, part.batches, config)
        part.batches.release()
    return Drafted(found, drafts, trials, config, name)


def planned(drafted: Drafted) -> QuantizationPlan:
    """Lowers drafts to a plan.

    Raises:
        UnsupportedError: No layer is int8.
    """
    found = drafted.found
    parts: dict[str, PlanPart] = {}
    left: list[Row] = []
    for path, draft in drafted.drafts.items():
        made = finish(draft, found.parts[path].batches, drafted.trials[path])
        found.parts[path].batches.release()
        if any(row.precision == "int8" for row in made.rows):
            parts[path] = made
        else:
            left += made.rows
    if not parts:
        raise nothing_to_quantize(found, drafted.name, drafted.drafts.values())
    left += left_rows(found, found.parts, drafted.config.exclude)
    return QuantizationPlan(parts, tuple(left), found.split)


def nothing_to_quantize(
    found: Partition, where: str, drafts: Iterable[Draft] = ()
) -> UnsupportedError:
    """Returns the error of a model none of whose layers becomes int8.

    Args:
        found: Its parts.
        where: The model.
        drafts: What they were to become.
    """
    if any(draft.slower for draft in drafts):
        return UnsupportedError(
            "every layer that could be int8 is slower on integers here",
            where=where,
            hint="leave it float, or give QuantizationConfig(placement='all')",
        )
    why = f": {found.split['']}" if "" in found.split else ""
    return UnsupportedError(
        f"nothing in this model can be quantized{why}",
        where=where,
        hint="it needs a convolution or a linear layer that config.exclude does not match",
    )


def check_globs(found: Partition, config: QuantizationConfig) -> None:
    """Checks that each glob matches a layer of a part or a module around the parts.

    Raises:
        CompressError: It matches nothing.
    """
    layers = [
        op.name.split("#")[0]
        for part in found.parts.values()
        for op in part.program.ops
        if op.kind in LAYERS
    ]
    around = left_modules(found.model, found.parts)
    match_names(config.exclude, [*layers, *around], "config.exclude")

"""From a float model to one that trains as it will run in int8."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from torchcompress.core.errors import UnsupportedError
from torchcompress.core.inputs import Inputs
from torchcompress.core.modules import copied, device_of, undisturbed
from torchcompress.quantization.calibrate import Batches, ProgramModule, first_outputs
from torchcompress.quantization.check_model import FAKE_QUANTIZERS, check_model
from torchcompress.quantization.drafted import check_globs, nothing_to_quantize
from torchcompress.quantization.left import left_rows
from torchcompress.quantization.macs import op_macs
from torchcompress.quantization.parts import Part, Partition, find_parts
from torchcompress.quantization.plan_part import check_weights
from torchcompress.quantization.program import Op, Program
from torchcompress.quantization.qat.activations import MovingRanges
from torchcompress.quantization.qat.config import QATConfig
from torchcompress.quantization.qat.form import Form, lowered_form, train_form
from torchcompress.quantization.qat.matching import match_values
from torchcompress.quantization.qat.prepared import (
    Around,
    FakeQuantizers,
    prepared_class,
    quantizers_in,
)
from torchcompress.quantization.quantize_part import Draft, draft_part, excluded_layers
from torchcompress.quantization.ranges import range_classes
from torchcompress.quantization.sources import AnySource, folded_tensors
from torchcompress.quantization.trace import trace
from torchcompress.quantization.unchanged import attributes_kept


def prepare_qat(
    model: nn.Module,
    x: Inputs,
    config: QATConfig | None = None,
    *,
    calibration: Iterable[Any] | None = None,
) -> nn.Module:
    """Returns a copy of a model that trains with the rounding errors of int8.

    Its modules, names, epsilons, momenta and dropouts are the model's own; its class is a subclass
    of the model's. Wherever the int8 model will hold integers, values are rounded to their grid in
    the forward pass; gradients pass through. `convert` makes it int8. A model that cannot be read
    as one program is prepared by its largest readable parts.

    Args:
        model: A float32 model.
        x: Example inputs; ranges start from what the model makes of them.
        config: How it is prepared.
        calibration: Batches of a few hundred samples that ranges start from in place of `x`;
            labels are ignored.

    Raises:
        UnsupportedError: Nothing to quantize, weights that are not float32 or not finite, a model
            that is prepared or int8 already, or train mode doing something that int8 cannot
            follow (named).
        TraceError: Train mode leaves out what eval mode computes.
        CalibrationError: Data that the model cannot run on or that is not finite, an activation
            that is not, or a layer that the data never reached.
        CompressError: A glob in `config.exclude` that matches nothing.
    """
    config = config or QATConfig()
    name, model = type(model).__name__, check_model(model)
    device = device_of(model)
    batches = Batches([(x,)] if calibration is None else calibration, None, device)
    found = find_parts(model, batches, config.exclude)
    check_globs(found, config.quantization())
    with attributes_kept(model):
        drafts = {
            path: _draft(path or name, path, part, found, config)
            for path, part in found.parts.items()
        }
    made, drafts = drafts, {path: draft for path, draft in drafts.items() if draft.int8}
    if not drafts:
        raise nothing_to_quantize(found, name, made.values())
    prepared = copied(model)
    around = Around(tuple(left_rows(found, drafts, config.exclude)), found.split)
    for path, draft in drafts.items():
        quantizers = _quantizers(path, found, draft, around, config).to(device)
        module = prepared.get_submodule(path)
        setattr(module, FAKE_QUANTIZERS, quantizers.train(module.training))
        module.__class__ = prepared_class(type(module))
    if config.ranges == "mse":
        _start_ranges(prepared, batches)
    return prepared


def _draft(name: str, path: str, part: Part, found: Partition, config: QATConfig) -> Draft:
    state, batches = found.model.state_dict(), part.batches
    check_weights(part.sources, state)
    want = first_outputs(found.model.get_submodule(path), batches)
    options = config.quantization()
    return draft_part(part.program, part.sources, state, batches, want, options, name)


def _quantizers(
    path: str, found: Partition, draft: Draft, around: Around, config: QATConfig
) -> FakeQuantizers:
    part, prefix = found.parts[path], f"{path}." if path else ""
    macs = op_macs(draft.float_module(), part.batches)
    draft = replace(draft, state={})
    classes = _numbered(draft)
    evaluated = lowered_form(draft.program, draft.sources, draft.int8, draft.slower, classes)
    call = found.record.forms[path]
    assert not isinstance(call, str)
    trained, sources = trace(found.model, path, call, training=True)
    form = train_form(
        (trained, sources),
        _shapes(trained, sources, found.model, part.batches),
        match_values(trained, sources, part.program, part.sources, path or "the model"),
        draft,
        classes,
        excluded_layers(trained, config.quantization()),
    )
    for known in (evaluated, form):
        _refuse_outside(known, prefix, path)
    return FakeQuantizers(draft, evaluated, form, classes, config, prefix, macs, around)


def _numbered(draft: Draft) -> dict[str, int]:
    """Returns the number of the class of each value that is stored as uint8."""
    classes, numbers = range_classes(draft.program), dict[str, int]()
    return {v: numbers.setdefault(classes[v], len(numbers)) for v in draft.stored}


def _shapes(
    program: Program, sources: Mapping[str, AnySource], model: nn.Module, batches: Batches
) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}

    def observe(op: Op | None, value: str, made: Any) -> None:
        if isinstance(made, Tensor):
            shapes[value] = tuple(made.shape)

    module = ProgramModule(program, folded_tensors(sources, model.state_dict()))
    module.observe = observe
    with torch.no_grad():
        batches.call(module, batches.first_index, batches.first)
    return shapes


def _refuse_outside(form: Form, prefix: str, path: str) -> None:
    """Refuses a part that reads tensors of modules outside it."""
    for source in form.sources.values():
        for name in source.expected_shapes():
            if not name.startswith(prefix):
                raise UnsupportedError(
                    f"uses {name!r}, which belongs to another module",
                    where=path,
                    hint="leave it float: config.exclude",
                )


def _start_ranges(model: nn.Module, batches: Batches) -> None:
    """Lets moving ranges start from the mean extremes of the calibration batches."""
    moving = [q.ranges for q in quantizers_in(model) if isinstance(q.ranges, MovingRanges)]
    seen: list[list[Tensor]] = []
    with undisturbed(model):
        for ranges in moving:
            ranges.measuring = True
        for index, inputs in batches if moving else ():
            for ranges in moving:
                ranges.restart()
            batches.call(model, index, inputs)
            seen.append([torch.stack([r.seen_low, r.seen_high]) for r in moving])
        for ranges in moving:
            ranges.measuring = False
    for ranges, extremes in zip(moving, zip(*seen, strict=True), strict=True):
        ranges.start_from(*torch.stack(extremes).mean(0))

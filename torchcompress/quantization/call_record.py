"""Which modules a model calls on calibration data, how, and what that costs."""

import fnmatch
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from torchcompress.core.errors import CalibrationError, TraceError, UnsupportedError
from torchcompress.core.inputs import tensors_in
from torchcompress.graph.running import plain_kernels
from torchcompress.quantization.binding import ObservedCall
from torchcompress.quantization.calibrate import Batches
from torchcompress.quantization.macs import Watch, samples_in
from torchcompress.quantization.trace import trace
from torchcompress.quantization.unchanged import unchanged


@dataclass
class CallRecord:
    """What was seen of each module.

    Args:
        forms: How a module was called, or why no program can be called like that; by path.
        first: The first batch that reached it with samples; by path.
        inputs: Of the batches in `first`.
        macs: Multiply-accumulates of a module without those of the modules inside it, for one
            sample; by path.
    """

    forms: dict[str, ObservedCall | str] = field(default_factory=dict)
    first: dict[str, int] = field(default_factory=dict)
    inputs: dict[int, Any] = field(default_factory=dict)
    macs: dict[str, float] = field(default_factory=dict)


def has_matrix(module: nn.Module, *, inside: bool = True) -> bool:
    """Returns whether a module owns weights of two dimensions or more."""
    return any(p.dim() > 1 for p in module.parameters(recurse=inside))


def record_calls(model: nn.Module, batches: Batches, exclude: Collection[str]) -> CallRecord:
    """Runs a model on calibration data until every layer has run.

    Args:
        model: In eval mode.
        batches: The data; one batch is enough for most models.
        exclude: Globs over the modules that need not run.

    Raises:
        CalibrationError: The model does not take a batch, or a layer that no batch reaches.
    """
    record = CallRecord()
    waiting = {
        path: module
        for path, module in model.named_modules()
        if has_matrix(module, inside=False)
        and not any(fnmatch.fnmatchcase(path, pattern) for pattern in exclude)
    }
    last = 0
    for last, inputs in _until_done(batches):
        before, watch = len(record.first), Watch()
        with unchanged(model), plain_kernels(), _hooked(model, record, watch, last):
            samples = samples_in(inputs)
            with watch:
                batches.call(model, last, inputs)
        if len(record.first) > before:
            record.inputs[last] = inputs
            for path in [p for p, index in record.first.items() if index == last]:
                record.macs[path] = record.macs.get(path, 0.0) / samples
        waiting = {
            path: module
            for path, module in waiting.items()
            if path not in record.first and (path in record.forms or not _is_read(module, watch))
        }
        if waiting and last == 0:
            unused = _unused(model)
            waiting = {path: module for path, module in waiting.items() if path not in unused}
        if not waiting:
            return record
    seen = f"batches 0 to {last}" if last else "batch 0"
    raise CalibrationError(
        "calibration never ran this layer",
        where=f"{next(iter(waiting))}, calibration {seen}",
        hint="add samples that reach it, or leave it out by config.exclude",
    )


def _unused(model: nn.Module) -> set[str]:
    """Returns the modules that no input reaches in eval mode, where that can be read.

    Such are the auxiliary heads of GoogLeNet and Inception.
    """
    try:
        _, sources = trace(model)
    except (TraceError, UnsupportedError):
        return set()
    used = {name for source in sources.values() for name in source.expected_shapes()}
    return {
        path
        for path, module in model.named_modules()
        if not any(f"{path}.{name}".lstrip(".") in used for name in module._parameters)
    }


def _is_read(module: nn.Module, watch: Watch) -> bool:
    """Whether functions were given the weights of a module that nothing calls."""
    return any(id(p) in watch.read for p in module.parameters(recurse=False))


def _until_done(batches: Batches) -> Iterator[tuple[int, Any]]:
    yield 0, batches.first
    yield from ((index, inputs) for index, inputs in batches if index > 0)


@contextmanager
def _hooked(model: nn.Module, record: CallRecord, watch: Watch, index: int) -> Iterator[None]:
    """Notes down every call of a module for a block."""
    inner: list[int] = []
    handles = []

    def hook(path: str, module: nn.Module) -> None:
        def enter(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            _note(record, path, module, args, kwargs, index)
            inner.append(watch.macs)

        def leave(*_: Any) -> None:
            spent = watch.macs - inner.pop()
            if record.first.get(path) == index:
                record.macs[path] = record.macs.get(path, 0.0) + spent
            # The caller's own count begins after this call's.
            inner[:] = [start + spent for start in inner]

        handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
        handles.append(module.register_forward_hook(leave))

    try:
        for path, module in model.named_modules():
            if not isinstance(module, torch.jit.ScriptModule):
                hook(path, module)
        yield
    finally:
        for handle in handles:
            handle.remove()


def _note(
    record: CallRecord,
    path: str,
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    index: int,
) -> None:
    tensors = [tensor for _, tensor in tensors_in((args, kwargs))]
    if any(tensor.numel() for tensor in tensors):
        record.first.setdefault(path, index)
    try:
        form: ObservedCall | str = ObservedCall.of(module, args, kwargs)
    except (ValueError, TypeError) as error:
        form = str(error)
    if not all(tensor.is_floating_point() for tensor in tensors):
        form = "it is called with tensors of integers"
    if record.forms.setdefault(path, form) != form:
        record.forms[path] = "it is called in different ways"

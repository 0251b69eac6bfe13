"""The largest parts of a model that can be read as programs."""

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import nn

from torchcompress.core.errors import CalibrationError, TraceError, UnsupportedError
from torchcompress.core.modules import shadow
from torchcompress.quantization.calibrate import Batches
from torchcompress.quantization.call_record import CallRecord, has_matrix, record_calls
from torchcompress.quantization.host import PartBatches, replaced
from torchcompress.quantization.other_inputs import check_copy, varied
from torchcompress.quantization.probe import Probe
from torchcompress.quantization.program import Program
from torchcompress.quantization.sources import AnySource, Source, folded_tensors
from torchcompress.quantization.trace import trace
from torchcompress.quantization.unchanged import attributes_kept, unchanged


@dataclass(frozen=True)
class Part:
    """A module that computes what its program computes, on every call that was seen.

    Args:
        program: As traced.
        sources: Of its layers, by the state_dict names of the whole model.
        batches: Calibration data as the part meets it.
    """

    program: Program
    sources: dict[str, AnySource]
    batches: Batches


@dataclass(frozen=True)
class Partition:
    """A model as parts and what remains around them.

    Args:
        model: A copy of the model in eval mode, on the same weights.
        parts: By module path; the empty path is the whole model.
        split: Why a module that holds layers is no part itself, by path.
        record: What was seen of the calls.
    """

    model: nn.Module
    parts: dict[str, Part]
    split: dict[str, str]
    record: CallRecord


def find_parts(model: nn.Module, batches: Batches, exclude: Collection[str] = ()) -> Partition:
    """Splits a model into the largest modules that can be read as programs.

    From the root down, each module that holds layers is traced; where the trace fails, or does
    not compute what the module computes, its children are tried. A part is a module that the code
    around it calls and does not otherwise look into. What was read is also tried on inputs that
    calibration does not hold.

    Args:
        model: Left as it was.
        batches: Calibration data. The first batch tells how modules are called; further ones are
            read where it does not reach every layer.
        exclude: Globs over modules that calibration need not reach.

    Raises:
        CalibrationError: The model does not take a batch, a value is not finite, or a layer that
            no batch reaches.
        UnsupportedError: The model cannot be copied, or a copy computes something else.
    """
    host = shadow(model).eval()
    # A hook of the copy may write to the model.
    with attributes_kept(model):
        try:
            record = record_calls(host, batches, exclude)
        except CalibrationError:
            check_copy(model, host, batches, batches.first_index, batches.first)
            raise
        search = _Search(model, host, batches, record)
        search.descend([""])
        while faults := search.faults():
            for path, fault in faults.items():
                del search.parts[path]
                search.split[path] = fault
            search.descend([child for path in faults for child in search.children(path)])
        if "" not in search.parts:
            index, inputs = next(iter(record.inputs.items()))
            check_copy(model, host, batches, index, inputs)
    order = [path for path, _ in host.named_modules() if path in search.parts]
    return Partition(host, {path: search.parts[path] for path in order}, search.split, record)


class _Search:
    """The parts found so far."""

    def __init__(
        self, model: nn.Module, host: nn.Module, batches: Batches, record: CallRecord
    ) -> None:
        self._model, self._host, self._batches, self._record = model, host, batches, record
        self._tensors = host.state_dict()
        self._tried: set[int] = set()
        self._probed: set[str] = set()
        self.parts: dict[str, Part] = {}
        self.split: dict[str, str] = {}

    def children(self, path: str) -> list[str]:
        """Returns the paths of a module's children."""
        module = self._host.get_submodule(path)
        return [f"{path}.{name}" if path else name for name, _ in module.named_children()]

    def descend(self, paths: list[str]) -> None:
        """Tries modules, and the children of those that cannot be read."""
        for path in paths:
            module = self._host.get_submodule(path)
            if id(module) in self._tried or not has_matrix(module):
                continue
            self._tried.add(id(module))
            found = self._read(path, module)
            if isinstance(found, Part):
                self.parts[path] = found
                continue
            if found:
                self.split[path] = found
            self.descend(self.children(path))

    def _read(self, path: str, module: nn.Module) -> Part | str:
        """Returns a part, or why there is none; an empty text for what is never called."""
        call, first = self._record.forms.get(path, ""), self._record.first.get(path)
        if first is None or isinstance(call, str):
            return call if isinstance(call, str) else ""
        if isinstance(module, torch.jit.ScriptModule):
            return "its code is compiled"
        if path and any(m._forward_hooks or m._forward_pre_hooks for m in module.modules()):
            return "it has forward hooks, which a program does not call"
        try:
            program, sources = trace(self._host, path, call)
        except (TraceError, UnsupportedError) as error:
            own = error.where in (None, path or type(self._host).__name__)
            return error.what if own else f"{error.where}: {error.what}"
        layers = [source for source in sources.values() if isinstance(source, Source)]
        if not any(source.weight is not None for source in layers):
            return "no convolution or linear layer in it"
        if not path:
            return Part(program, sources, self._batches)
        view = PartBatches(
            self._batches.loader,
            self._batches.forward,
            self._batches.device,
            first_index=first,
            host=self._host,
            path=path,
        )
        view.first = self._record.inputs[first]
        return Part(program, sources, view)

    def faults(self) -> dict[str, str]:
        """Runs the programs beside their modules, and says which cannot stand in for them."""
        new = {path: part for path, part in self.parts.items() if path not in self._probed}
        self._probed |= new.keys()
        probes = {
            path: Probe(
                self._host.get_submodule(path) if path else self._model,
                part.program,
                part.sources,
                folded_tensors(part.sources, self._tensors),
                whole=not path,
            )
            for path, part in new.items()
        }
        try:
            self._run(probes, new)
        except CalibrationError as error:
            if error.__cause__ is None:  # A value that is not finite.
                raise
            for path, probe in probes.items():
                probe.fault = self._alone(path, probe, new) or probe.fault
            if not any(probe.fault for probe in probes.values()):
                raise
        for probe in probes.values():
            if not probe.calls and not probe.fault:
                probe.fault = "the code around it does not call it as a module"
        return {path: probe.fault for path, probe in probes.items() if probe.fault}

    def _alone(self, path: str, probe: Probe, parts: dict[str, Part]) -> str:
        """Returns how the code around a module fails with nothing but a probe in its place."""
        try:
            self._run({path: probe}, parts)
        except CalibrationError as error:
            return f"the code around it needs the module itself: {error.__cause__}"
        return ""

    def _run(self, probes: dict[str, Probe], parts: dict[str, Part]) -> None:
        """Runs the model on the first batch of each part, with probes in the place of modules.

        Then, one call after another, on inputs made up from the last of these batches.
        """
        model = self._model if "" in probes else self._host
        called = probes.get("", model)
        others = {path: probe for path, probe in probes.items() if path}
        indices = sorted({parts[path].batches.first_index for path in probes})
        for index in indices:
            inputs = self._record.inputs[index]
            with unchanged(model), replaced(self._host, others):
                for probe in probes.values():
                    probe.batch = index
                self._batches.call(called, index, inputs)
                for probe in probes.values():
                    probe.batch = None
                # A model that does not take such inputs tells nothing.
                with suppress(CalibrationError):
                    if index == indices[-1]:
                        self._batches.call(called, index, varied(inputs))

"""Saving a compressed model to one file and loading it again."""

import copy
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import Tensor, nn

from torchcompress.core.errors import ArtifactError, CompressError
from torchcompress.core.history import (
    Architecture,
    architecture,
    history,
    record,
    remember_architecture,
)
from torchcompress.core.plan import Plan, plan_from_json, plan_to_json
from torchcompress.deploy.architecture import build
from torchcompress.deploy.container import (
    Manifest,
    StoredArchitecture,
    read_container,
    write_container,
)
from torchcompress.pruning import PruningPlan, SparsityPlan
from torchcompress.quantization import Int8Model, PartlyInt8Model, QuantizationPlan
from torchcompress.quantization.check_model import refuse_prepared
from torchcompress.quantization.model import tensors_under

PLANS = (PruningPlan, SparsityPlan, QuantizationPlan)
"""The kinds of plan that an artifact may hold."""


def save(
    model: nn.Module,
    path: str | Path,
    *,
    arch: str | None = None,
    args: dict[str, Any] | None = None,
    input_shape: tuple[int, ...] | None = None,
    measurements: dict[str, Any] | None = None,
) -> None:
    """Saves a model as a `.tcz` file: its architecture, its plans and its tensors, no pickle.

    An int8 model is saved as its flat program and int8 tensors; where only parts of a model are
    int8, as a program for each part and the tensors around them. The file is written whole or not
    at all.

    Args:
        model: Any model; what it remembers (`tc.history`) is saved with it.
        path: The file to make or replace.
        arch: How a fresh model is built: a torchvision name or `package.module:factory`; by
            default what the model remembers.
        args: Keyword arguments of the constructor, JSON values.
        input_shape: Shape of one input without its batch dimension.
        measurements: What was measured of the model, JSON values.

    Raises:
        ArtifactError: A tensor that cannot be stored, or a place that cannot be written.
        UnsupportedError: The model is prepared for training and not converted.
    """
    refuse_prepared(model)
    known = Architecture(arch, args or {}) if arch is not None else architecture(model)
    whole = isinstance(model, Int8Model)
    held = model.model if isinstance(model, PartlyInt8Model) else model
    tensors, aliases = _untied(model.tensors if whole else held.state_dict())
    try:
        manifest = Manifest(
            architecture=None
            if known is None
            else StoredArchitecture(name=known.name, args=known.args),
            plans=[plan_to_json(_beside(plan, tensors)) for plan in history(model)],
            program=model.program_json() if whole else None,
            input_shape=None if input_shape is None else list(input_shape),
            measurements=measurements or {},
            aliases=aliases,
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ArtifactError(
            f"cannot be stored: {first['msg']}", where=where, hint="give JSON values"
        ) from error
    write_container(Path(path), manifest, tensors)


def load(
    path: str | Path, *, model: nn.Module | None = None, trust: Collection[str] = ()
) -> nn.Module:
    """Loads a model that `save` wrote, in eval mode, on the CPU.

    Nothing is unpickled, traced or timed. The plans are applied to a fresh model of the recorded
    architecture, then the tensors are filled in; an int8 model is rebuilt from its program alone,
    one with int8 parts from the fresh model and the program of each part.

    Args:
        path: A `.tcz` file.
        model: A fresh model of the architecture, where the file names none; a copy is used.
        trust: Factories outside torchvision, as `package.module:factory`, that may be called.

    Raises:
        ArtifactError: A file that is truncated, altered or no artifact, or that does not fit.
        UnsupportedError: An architecture that is unknown, or not trusted.
        CompressError: An architecture that refuses its arguments.
    """
    path = Path(path)
    manifest, tensors = read_container(path)
    plans = [_beside(plan, tensors) for plan in _plans(path, manifest)]
    arch = manifest.architecture
    known = None if arch is None else Architecture(arch.name, dict(arch.args))
    tensors |= {name: tensors[source] for name, source in manifest.aliases.items()}
    if manifest.program is not None:
        loaded: nn.Module = Int8Model.from_program(manifest.program, tensors)
        for plan in plans:
            record(loaded, plan)
    else:
        loaded = _rebuilt(path, known, plans, tensors, model, trust)
    remember_architecture(loaded, known)
    return loaded.eval()


def read_manifest(path: str | Path) -> Manifest:
    """Returns what a `.tcz` file says of itself, once its sizes and hashes are checked.

    Args:
        path: The file.

    Raises:
        ArtifactError: A file that is truncated, altered or no artifact.
    """
    return read_container(Path(path))[0]


def _beside(plan: Plan, tensors: Mapping[str, Tensor]) -> Plan:
    """Returns a plan that says nothing which the tensors say; of such a plan, the plan itself."""
    return plan.beside(tensors) if isinstance(plan, SparsityPlan) else plan


def _untied(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Splits a state_dict into tensors to store and names of the same tensor."""
    first: dict[tuple[object, ...], str] = {}
    tensors: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor):
            raise ArtifactError("is no tensor and cannot be stored", where=name)
        key = (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
        if tensor.numel() and key in first:
            aliases[name] = first[key]
        else:
            first[key] = name
            tensors[name] = tensor
    return tensors, aliases


def _plans(path: Path, manifest: Manifest) -> list[Plan]:
    unknown = {str(plan.get("kind")) for plan in manifest.plans} - {kind.kind for kind in PLANS}
    if unknown:
        hint = f"this release knows {', '.join(kind.kind for kind in PLANS)}"
        raise ArtifactError(f"{min(unknown)!r} is not a kind of plan", where=str(path), hint=hint)
    try:
        return [plan_from_json(dict(plan)) for plan in manifest.plans]
    except ArtifactError as error:
        what = f"a plan cannot be read: {error.where}: {error.what}"
        raise ArtifactError(what, where=str(path), hint=error.hint) from error


def _rebuilt(
    path: Path,
    known: Architecture | None,
    plans: list[Plan],
    tensors: dict[str, Tensor],
    model: nn.Module | None,
    trust: Collection[str],
) -> nn.Module:
    if model is not None:
        fresh = copy.deepcopy(model)
    elif known is not None:
        fresh = build(known, trust=trust)
    else:
        raise ArtifactError(
            "the file does not say how its model is built",
            where=str(path),
            hint="pass a fresh model: tc.load(path, model=MyModel())",
        )
    last = plans[-1] if plans and isinstance(plans[-1], QuantizationPlan) else None
    try:
        for plan in plans if last is None else plans[:-1]:
            fresh = plan.apply(fresh, inplace=True)
        if last is not None:
            fresh = last.assemble(
                fresh,
                {
                    name: part.holding(tensors_under(f"{name}.", tensors))
                    for name, part in last.parts.items()
                },
            )
    except (CompressError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise _misfit(path, str(error)) from error
    _fill(path, fresh.model if isinstance(fresh, PartlyInt8Model) else fresh, tensors)
    return fresh


def _fill(path: Path, model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Gives a model its tensors, each in its own dtype."""
    state = model.state_dict(keep_vars=True)
    for name in [*state, *tensors]:
        if name not in tensors or name not in state:
            raise _misfit(path, f"{name} is {'missing' if name in state else 'not in the model'}")
        if state[name].shape != tensors[name].shape:
            shapes = f"{tuple(tensors[name].shape)}, not {tuple(state[name].shape)}"
            raise _misfit(path, f"{name} has the shape {shapes}")
        if state[name].is_floating_point() != tensors[name].is_floating_point():
            raise _misfit(path, f"{name} is {tensors[name].dtype}, not {state[name].dtype}")
    for name, tensor in state.items():
        tensor.data = tensors[name]


def _misfit(path: Path, what: str) -> ArtifactError:
    return ArtifactError(
        f"its content does not fit the model that it describes: {what}",
        where=str(path),
        hint="load it with the version of torchvision that built it, or pass model=",
    )

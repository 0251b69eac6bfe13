"""Saving a training at the end of an epoch, and going on from there."""

import copy
import pickle
import zipfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from torchcompress.core.errors import ArtifactError, CompressError
from torchcompress.core.files import replacing
from torchcompress.core.modules import device_of
from torchcompress.training.callback import Callback, Run
from torchcompress.training.loader import generators_of
from torchcompress.training.paths import require_writable

_FORMAT = 1
_FIELDS = {
    "config": dict,
    "model": dict,
    "optimizer": dict,
    "epoch": int,
    "step": int,
    "history": list,
    "rng": dict,
    "loader": dict,
    "callbacks": list,
}
_UNSOUND = (OSError, RuntimeError, EOFError, ValueError, zipfile.BadZipFile, pickle.UnpicklingError)


class Checkpoint(Callback):
    """Saves the training after each epoch, whole or not at all.

    The file holds the model, the optimizer, the position of the schedule, torch's random states
    and those of the loader, the history and the state of every callback.

    Args:
        path: The file, replaced after each epoch.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def on_fit_start(self, run: Run) -> None:
        """Makes sure that the file can be made before anything is trained."""
        require_writable(self.path)

    def on_epoch_end(self, run: Run) -> None:
        """Saves.

        Raises:
            CompressError: The file cannot be written; an earlier one is intact.
        """
        state = {
            "format": _FORMAT,
            "config": asdict(run.config),
            "model": run.model.state_dict(),
            "optimizer": run.optimizer.state_dict(),
            "epoch": run.epoch + 1,
            "step": run.step,
            "history": run.history,
            "rng": _random_states(run),
            "loader": _loader_state(run),
            "callbacks": [(_name(c), c.state_dict()) for c in run.callbacks],
        }
        try:
            with replacing(self.path) as temporary:
                torch.save(state, temporary)
        except (OSError, RuntimeError) as error:
            raise CompressError(
                f"the checkpoint could not be written: {error}",
                where=str(self.path),
                hint="an earlier checkpoint is intact; resume from it with resume=True",
            ) from error


def restore(path: Path, run: Run) -> None:
    """Brings a run, whose callbacks have started, to where a checkpoint left it.

    Args:
        path: The checkpoint.
        run: A run of the same model, loader, config and callbacks.

    Raises:
        ArtifactError: The file is missing or damaged, or a training of another model, loader or
            config wrote it. The run is then as it was.
    """
    state = _read(path)
    try:
        _refuse_other_training(path, state, run)
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"this is not a sound checkpoint: {error!r}", where=str(path)
        ) from error
    _rebuild(run, run.model, state)
    run.model.load_state_dict(state["model"])
    run.optimizer.load_state_dict(state["optimizer"])
    for callback, (_, saved) in zip(run.callbacks, state["callbacks"], strict=True):
        callback.load_state_dict(saved)
    run.epoch, run.step, run.history = state["epoch"], state["step"], state["history"]
    _restore_random_states(run, state["rng"])
    for generator, saved in zip(
        generators_of(run.train), state["loader"]["generators"], strict=True
    ):
        generator.set_state(saved)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ArtifactError(
            "there is no checkpoint to resume from", where=str(path), hint="start with resume=False"
        )
    try:
        # torch.load does not compare checksums: a flipped bit would pass as a weight.
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
        if broken is not None:
            raise zipfile.BadZipFile(f"{broken} does not match its checksum")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except _UNSOUND as error:
        raise ArtifactError(f"this is not a sound checkpoint: {error}", where=str(path)) from error
    if not isinstance(state, dict) or state.get("format") != _FORMAT:
        raise ArtifactError("this is not a checkpoint of a training", where=str(path))
    for name, kind in _FIELDS.items():
        if not isinstance(state.get(name), kind):
            raise ArtifactError(
                f"this is not a sound checkpoint: {name} is {type(state.get(name)).__name__}, "
                f"not {kind.__name__}",
                where=str(path),
            )
    return state


def _refuse_other_training(path: Path, state: dict[str, Any], run: Run) -> None:
    _refuse_other_loader(path, state["loader"], _loader_state(run))
    _refuse_other_config(path, state["config"], asdict(run.config))
    _refuse_other_parameters(path, state["optimizer"], run.optimizer.state_dict())
    _refuse_other_callbacks(path, state["callbacks"], run.callbacks)
    _refuse_other_model(path, state, run)


def _rebuild(run: Run, model: nn.Module, state: dict[str, Any]) -> None:
    for callback, (_, saved) in zip(run.callbacks, state["callbacks"], strict=True):
        callback.rebuild(model, saved)


def _refuse_other_callbacks(path: Path, saved: list[Any], here: Sequence[Callback]) -> None:
    names = [name for name, _ in saved]
    if names != [_name(c) for c in here]:
        raise ArtifactError(
            f"the checkpoint has the callbacks {names}, this training has "
            f"{[_name(c) for c in here]}",
            where=str(path),
            hint="give the same callbacks in the same order",
        )


def _refuse_other_model(path: Path, state: dict[str, Any], run: Run) -> None:
    rebuilt = copy.deepcopy(run.model)
    try:
        _rebuild(run, rebuilt, state)
    except CompressError as error:
        raise ArtifactError(
            f"the checkpoint is of another model: {error}", where=str(path)
        ) from error
    saved, here = state["model"], rebuilt.state_dict()

    def kind(state: dict[str, Any], name: str) -> str:
        value = state.get(name)
        if not isinstance(value, Tensor):
            return type(value).__name__ if name in state else "missing"
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"

    names = list(dict.fromkeys([*here, *saved]))
    odd = [name for name in names if kind(saved, name) != kind(here, name)]
    if odd:
        first = odd[0]
        raise ArtifactError(
            f"the checkpoint is of another model: {first} is {kind(saved, first)} there and "
            f"{kind(here, first)} here ({len(odd)} of {len(names)} values differ)",
            where=str(path),
            hint="resume with the model that the training began with",
        )


def _refuse_other_config(path: Path, saved: dict[str, Any], here: dict[str, Any]) -> None:
    odd = [name for name in here if saved.get(name) != here[name]]
    if odd:
        first = odd[0]
        raise ArtifactError(
            f"the checkpoint was made with {first}={saved.get(first)!r}, not {here[first]!r}",
            where=str(path),
            hint="resume with the same config, or start with resume=False",
        )


def _refuse_other_loader(path: Path, saved: dict[str, Any], here: dict[str, Any]) -> None:
    there, now = (f"{s.get('steps')} batches" for s in (saved, here))
    if there == now:
        there, now = (
            f"{len(s.get('generators', ()))} random generators of its own" for s in (saved, here)
        )
    if there != now:
        raise ArtifactError(
            f"the checkpoint's loader has {there}, this one {now}",
            where=str(path),
            hint="resume with the loader that the training began with",
        )


def _refuse_other_parameters(path: Path, saved: dict[str, Any], here: dict[str, Any]) -> None:
    there, now = (
        [len(group["params"]) for group in state["param_groups"]] for state in (saved, here)
    )
    if there != now:
        raise ArtifactError(
            f"the checkpoint trained {sum(there)} parameters, this training {sum(now)}",
            where=str(path),
            hint="let the same parameters require gradients",
        )


def _name(callback: Callback) -> str:
    return type(callback).__name__


def _random_states(run: Run) -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if device_of(run.model).type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device_of(run.model))
    return states


def _loader_state(run: Run) -> dict[str, Any]:
    states = [generator.get_state() for generator in generators_of(run.train)]
    return {"steps": len(run.train), "generators": states}


def _restore_random_states(run: Run, states: dict[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and device_of(run.model).type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device_of(run.model))

"""What a sparsification has done so far, in a file, so that it goes on where it was stopped."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from torchcompress.core.errors import CompressError
from torchcompress.core.files import replacing
from torchcompress.core.inputs import tensors_in
from torchcompress.reconstruction.capture import Calibration

_STATE, _COST, _NEXT = "state.", "cost.", "next."


class Finished:
    """The layers of a run that are done, kept in a file after each of them.

    Args:
        path: The file; None keeps nothing.
        key: What the run depends on, as text; the file of another run is refused.

    Attributes:
        passes: Passes that are done.
        layers: Layers of the pass at hand that are done, by name.
        state: The model's tensors after them, by name.
        cost: What the removal of each weight costs, as the pass at hand takes it.
        next: The same for the pass after it, of the layers that are done.

    Raises:
        CompressError: The file is of another run, or cannot be read.
    """

    def __init__(self, path: str | Path | None, key: str) -> None:
        if path is not None and not isinstance(path, str | Path):
            raise CompressError(f"{path!r} is no path", where="resume")
        self._path = None if path is None else Path(path)
        self._key = key
        self.passes = 0
        self.layers: list[str] = []
        self.state: dict[str, Tensor] = {}
        self.cost: dict[str, Tensor] = {}
        self.next: dict[str, Tensor] = {}
        if self._path is not None and not self._path.parent.is_dir():
            raise CompressError(
                "is in no folder that exists", where=str(path), hint="make it first"
            )
        if self._path is not None and self._path.exists():
            self._read(self._path)

    def layer_done(self, name: str, cost: Tensor, model: nn.Module) -> None:
        """Notes that a layer of the pass at hand is done."""
        self.layers.append(name)
        self.next[name] = cost
        self._write(model)

    def pass_done(self, model: nn.Module) -> None:
        """Notes that all layers of the pass at hand are done."""
        self.passes += 1
        self.layers, self.cost, self.next = [], self.next, {}
        self._write(model)

    def _write(self, model: nn.Module) -> None:
        if self._path is None:
            return
        tensors = {f"{_STATE}{name}": tensor for name, tensor in model.state_dict().items()}
        tensors |= {f"{_COST}{name}": tensor for name, tensor in self.cost.items()}
        tensors |= {f"{_NEXT}{name}": tensor for name, tensor in self.next.items()}
        done = {"key": self._key, "passes": str(self.passes), "layers": json.dumps(self.layers)}
        with replacing(self._path) as temporary:
            save_file(
                {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()},
                temporary,
                done,
            )

    def _read(self, path: Path) -> None:
        try:
            with safe_open(path, "pt") as file:
                done = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise CompressError(f"cannot be read: {error}", where=str(path)) from error
        if done.get("key") != self._key:
            raise CompressError(
                "is of another model, other calibration data or other arguments",
                where=str(path),
                hint="delete it to start anew, or give resume= another file",
            )
        self.passes, self.layers = int(done["passes"]), json.loads(done["layers"])
        for prefix, part in ((_STATE, self.state), (_COST, self.cost), (_NEXT, self.next)):
            part.update(
                {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
            )


def run_key(model: nn.Module, calibration: Calibration, arguments: Iterable[object]) -> str:
    """Returns a digest of all that a run depends on.

    Args:
        model: The model before.
        calibration: The batches.
        arguments: What else was given; each as its text.

    How the model is called on a batch counts by its code, and the architecture by how it prints.
    """
    given = [model, *_spelled(calibration.forward), *arguments]
    digest = hashlib.sha256(repr([str(argument) for argument in given]).encode())
    everything: Mapping[str, object] = {
        "model": model.state_dict(),
        "batches": calibration.batches,
    }
    for name, tensor in tensors_in(everything):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _spelled(function: Callable[..., object]) -> list[object]:
    """Returns what tells a function from another one, the same in every process."""
    code = getattr(function, "__code__", None)
    if code is None:
        return [type(function).__qualname__]
    constants = [constant for constant in code.co_consts if not hasattr(constant, "co_code")]
    return [function.__qualname__, code.co_code, constants, code.co_names]

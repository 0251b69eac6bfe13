"""From `[model]` to a network with its weights."""

from pathlib import Path
from typing import Any

import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import WeightsEnum, get_model_weights, list_models

from torchcompress.core.errors import CompressError, did_you_mean
from torchcompress.core.history import Architecture
from torchcompress.data import bundled_file
from torchcompress.deploy import build

_BUNDLED = "bundled:"
_CHECKPOINT = ".safetensors"


def check_architecture(arch: str) -> None:
    """Checks a name without importing a factory or building anything.

    Args:
        arch: A torchvision classification model, or `package.module:factory`.

    Raises:
        CompressError: torchvision has no such classification model.
    """
    if not _is_factory(arch) and arch not in _classifiers():
        raise CompressError(
            f"{arch!r} is not a torchvision classification model",
            hint=did_you_mean(arch, _classifiers()),
        )


def check_weights(arch: str, weights: str) -> None:
    """Checks a name of weights without reading any.

    Args:
        arch: An architecture that `check_architecture` accepts.
        weights: A torchvision weights entry, `bundled:NAME`, or the path of a checkpoint.

    Raises:
        CompressError: There are no such weights.
    """
    if weights.startswith(_BUNDLED):
        bundled_file(weights.removeprefix(_BUNDLED))
    elif weights.endswith(_CHECKPOINT):
        if not Path(weights).expanduser().is_file():
            raise CompressError(
                f"there is no file {weights!r}", hint="paths start at the current folder"
            )
    elif _is_factory(arch):
        raise CompressError(
            f"{weights!r} is not a checkpoint, and a factory has no weights by name",
            hint=f"give the path of a {_CHECKPOINT} file",
        )
    else:
        _entry(arch, weights)


def build_network(
    arch: str, args: dict[str, Any], weights: str | None, num_classes: int
) -> nn.Module:
    """Builds a network, which remembers its architecture, and loads its weights.

    Args:
        arch: A torchvision classification model, or `package.module:factory`.
        args: Keyword arguments of the constructor.
        weights: What `check_weights` accepts, or None for random weights.
        num_classes: How many classes the data has.

    Raises:
        CompressError: A constructor that refuses its arguments, or weights of another network or
            of another number of classes.
    """
    known = Architecture(arch, {"num_classes": num_classes, **args})
    model = build(known, trust=[arch])
    if weights is not None:
        _load(model, _state_dict(arch, weights, num_classes), weights)
    return model


def _is_factory(arch: str) -> bool:
    return ":" in arch


def _classifiers() -> list[str]:
    return list_models(module=torchvision.models)


def _entry(arch: str, weights: str) -> WeightsEnum:
    entries = get_model_weights(arch).__members__
    if weights not in entries:
        raise CompressError(
            f"{weights!r} is not an entry of torchvision's weights for {arch}",
            hint=f"{did_you_mean(weights, entries)} Or give bundled:NAME or a path that ends in "
            f"{_CHECKPOINT}",
        )
    return entries[weights]


def _state_dict(arch: str, weights: str, num_classes: int) -> dict[str, Tensor]:
    if weights.startswith(_BUNDLED) or weights.endswith(_CHECKPOINT):
        bundled = weights.startswith(_BUNDLED)
        name = weights.removeprefix(_BUNDLED)
        path = bundled_file(name) if bundled else Path(weights).expanduser()
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise CompressError(
                f"{path} cannot be read: {error}",
                where="weights",
                hint="is it a whole safetensors file?",
            ) from error
    entry = _entry(arch, weights)
    classes = len(entry.meta["categories"])
    if classes != num_classes:
        raise CompressError(
            f"{weights} tells {classes} classes apart, the data has {num_classes}",
            where="weights",
            hint="leave weights out and let a stage of kind 'train' come first, or give a "
            "checkpoint that was trained on this data",
        )
    return dict(entry.get_state_dict(progress=True, check_hash=True))


def _load(model: nn.Module, state: dict[str, Tensor], weights: str) -> None:
    own = model.state_dict()
    for name in sorted(own.keys() ^ state.keys()):
        place = "the checkpoint" if name in own else "the model"
        raise CompressError(
            f"{weights} belongs to another network: {name} is not in {place}",
            where="weights",
            hint="give the architecture that the checkpoint was trained with",
        )
    for name, tensor in own.items():
        if tensor.shape != state[name].shape:
            raise CompressError(
                f"{weights} belongs to another network: {name} is {tuple(state[name].shape)}, "
                f"the model's is {tuple(tensor.shape)}",
                where="weights",
                hint="give a checkpoint of this architecture and as many classes as the data has",
            )
    model.load_state_dict(state)

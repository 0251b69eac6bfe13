"""Attributes that repeat a size, and what they are after a cut."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from torchcompress.core.errors import ExtensionError
from torchcompress.pruning.adapters import check_kinds
from torchcompress.pruning.surgery import no_larger


@dataclass(frozen=True)
class Remaining:
    """What a cut leaves of a module.

    Attributes:
        shapes: New shapes of its parameters and buffers and of its children's, by their names in
            the module, such as `weight` or `proj.weight`.
        input: New shape of its first input in its last call; empty where it loses nothing.
        groups: How many groups of a grouped convolution or group norm remain, None where none
            went.
    """

    shapes: dict[str, tuple[int, ...]]
    input: tuple[int, ...] = ()
    groups: int | None = None


Mend = Callable[[Any, Remaining], dict[str, Any]]
"""Returns the new values of a module's attributes, as JSON values."""

_MENDS: dict[type[nn.Module], Mend] = {}


def mend(*kinds: type[nn.Module]) -> Callable[[Mend], Mend]:
    """Registers how modules of some classes, and of their subclasses, are mended.

    A module that repeats a size in an attribute and reads it in its forward pass breaks once the
    tensors are smaller. The decorated function is called where a cut reaches tensors of the
    module or of its children, or its first input. It takes the module and a `Remaining`, and
    returns the attributes that change: whole numbers, or lists of such where the attribute is a
    tuple, and none larger than before.

    Args:
        kinds: Classes of modules.

    Raises:
        CompressError: No class is given, or something else.
    """
    check_kinds("mend", kinds)

    def register(function: Mend) -> Mend:
        for kind in kinds:
            _MENDS[kind] = function
        return function

    return register


_SOURCES = ("parametrizations.weight.original", "parametrizations.weight.original1",
            "weight_orig", "weight_v")  # fmt: skip
"""What a weight is computed from, of its shape, in parametrizations and in their older form."""


def mended(module: nn.Module, remaining: Remaining) -> dict[str, Any]:
    """Returns the attributes of a module that a cut changes, with their new values.

    A module whose weight is computed from tensors of other shapes is left alone.

    Raises:
        ExtensionError: The registered function fails, or returns anything but sizes of the module
            that do not grow.
    """
    kind = next((kind for kind in type(module).__mro__ if kind in _MENDS), None)
    if kind is None:
        return {}
    source = next((name for name in _SOURCES if name in remaining.shapes), None)
    if source is not None:
        shapes = {**remaining.shapes, "weight": remaining.shapes[source]}
        remaining = replace(remaining, shapes=shapes)
    if "weight" not in remaining.shapes and (
        is_parametrized(module) or isinstance(getattr(module, "weight", None), Tensor)
    ):
        return {}
    try:
        new = _MENDS[kind](module, remaining)
    except Exception as error:  # A function of the user's may raise anything.
        raise _faulty(kind, f"raises {type(error).__name__}: {error}") from error
    if not isinstance(new, Mapping):
        raise _faulty(kind, f"returns {new!r}, not a dict")
    for name, value in new.items():
        if not isinstance(name, str) or not hasattr(module, name):
            raise _faulty(kind, f"sets {name!r}, which the module does not have")
        if not no_larger(value, getattr(module, name)):
            raise _faulty(kind, f"sets {name} = {getattr(module, name)!r} to {value!r}")
    return {name: value for name, value in new.items() if _plain(module, name) != value}


def _faulty(kind: type[nn.Module], what: str) -> ExtensionError:
    return ExtensionError(
        f"the mend of {kind.__name__} {what}",
        where="mend",
        hint="return attributes that the module has, each a smaller int, or a list of such",
    )


def _plain(module: nn.Module, attribute: str) -> Any:
    value = getattr(module, attribute)
    return list(value) if isinstance(value, tuple) else value


@mend(nn.Conv1d, nn.Conv2d, nn.Conv3d)
def _convolution(module: nn.Conv2d, remaining: Remaining) -> dict[str, Any]:
    out, each = remaining.shapes["weight"][:2]
    groups = module.groups if remaining.groups is None else remaining.groups
    return {"in_channels": each * groups, "out_channels": out, "groups": groups}


@mend(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
def _transposed(module: nn.ConvTranspose2d, remaining: Remaining) -> dict[str, Any]:
    into, each = remaining.shapes["weight"][:2]
    groups = module.groups if remaining.groups is None else remaining.groups
    return {"in_channels": into, "out_channels": each * groups, "groups": groups}


@mend(nn.Linear)
def _linear(module: nn.Linear, remaining: Remaining) -> dict[str, Any]:
    out, into = remaining.shapes["weight"]
    return {"in_features": into, "out_features": out}


@mend(nn.modules.batchnorm._NormBase)
def _norm(module: nn.BatchNorm2d, remaining: Remaining) -> dict[str, Any]:
    return {"num_features": _features(remaining, 1)}


@mend(nn.modules.instancenorm._InstanceNorm)
def _instance_norm(module: nn.InstanceNorm2d, remaining: Remaining) -> dict[str, Any]:
    batched = len(remaining.input) != module._get_no_batch_dim()
    return {"num_features": _features(remaining, int(batched))}


def _features(remaining: Remaining, dim: int) -> int:
    own = (shape[0] for shape in remaining.shapes.values() if shape)
    return next(own, None) or remaining.input[dim]


@mend(nn.GroupNorm)
def _group_norm(module: nn.GroupNorm, remaining: Remaining) -> dict[str, Any]:
    channels = _features(remaining, 1)
    groups = module.num_groups if remaining.groups is None else remaining.groups
    return {"num_channels": channels, "num_groups": groups}


@mend(nn.LayerNorm, nn.RMSNorm)
def _layer_norm(module: nn.LayerNorm | nn.RMSNorm, remaining: Remaining) -> dict[str, Any]:
    shape = remaining.shapes.get("weight") or remaining.input[-len(module.normalized_shape) :]
    return {"normalized_shape": list(shape)}


@mend(nn.PReLU)
def _prelu(module: nn.PReLU, remaining: Remaining) -> dict[str, Any]:
    return {"num_parameters": remaining.shapes["weight"][0]}


@mend(nn.Embedding)
def _embedding(module: nn.Embedding, remaining: Remaining) -> dict[str, Any]:
    rows, width = remaining.shapes["weight"]
    return {"num_embeddings": rows, "embedding_dim": width}

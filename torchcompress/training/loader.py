"""What a training needs to know of its loader and of a batch."""

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from torchcompress.core.errors import CompressError
from torchcompress.core.inputs import batch_inputs, tensors_in


class TrainLoader(Protocol):
    """Batches, as many as its length says; `set_epoch(epoch)` is called where it exists."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Any]: ...


def require_batches(train: Any, val: Any) -> None:
    """Refuses loaders that cannot be trained or measured on.

    Args:
        train: Must have a length, which the learning rate's schedule needs, and may be read once
            an epoch.
        val: Anything with batches, or None.

    Raises:
        CompressError: No length or no batches in `train`, or an empty `val`.
    """
    for name, loader in (("train", train), ("val", val)):
        length = _length(loader)
        if length == 0:
            raise CompressError("the loader is empty", where=name)
        if name == "train" and (length is None or not isinstance(loader, Iterable)):
            raise CompressError(
                f"{type(loader).__name__} is no loader of known length",
                where=name,
                hint="give a DataLoader over a map-style dataset, or a list of batches",
            )


def generators_of(loader: Any) -> list[torch.Generator]:
    """Returns the random generators that a DataLoader and its samplers keep for themselves."""
    batch_sampler = getattr(loader, "batch_sampler", None)
    owners = (
        loader,
        getattr(loader, "sampler", None),
        batch_sampler,
        getattr(batch_sampler, "sampler", None),
    )
    found = [getattr(owner, "generator", None) for owner in owners]
    return list(dict.fromkeys(g for g in found if isinstance(g, torch.Generator)))


def batch_size(batch: Any) -> int:
    """Returns how many samples a batch holds: the length of its first tensor.

    Raises:
        CompressError: The batch holds no tensor, or only a scalar.
    """
    for _, tensor in tensors_in(batch_inputs(batch)):
        if tensor.ndim:
            return len(tensor)
    raise CompressError("a batch holds no tensor of samples", where="train")


def without_last_single(loader: TrainLoader, model: nn.Module) -> Iterator[Any]:
    """Yields the batches, but for a last one of one sample on which BatchNorm cannot train.

    It is left out where the model trains a BatchNorm and other batches are larger.
    """
    last, largest = len(loader) - 1, 0
    for index, batch in enumerate(loader):
        size = batch_size(batch)
        largest = max(largest, size)
        if index < last or size > 1 or largest == 1 or not _trains_batch_norm(model):
            yield batch


def _trains_batch_norm(model: nn.Module) -> bool:
    return any(isinstance(module, _BatchNorm) and module.training for module in model.modules())


def _length(loader: Any) -> int | None:
    try:
        return len(loader)
    except TypeError:
        return None

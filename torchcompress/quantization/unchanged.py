"""Running a model without changing it, whatever its forward pass stores on it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from torchcompress.core.modules import undisturbed

_REGISTRIES = ("_parameters", "_buffers", "_modules")
_BOOKKEEPING = vars(nn.Module()).keys()


class Attributes:
    """The attributes of every module of a model, as they are now.

    Args:
        model: The model.
    """

    def __init__(self, model: nn.Module) -> None:
        self._paths = {module: path for path, module in model.named_modules()}
        self._own = {module: dict(vars(module)) for module in self._paths}
        values = [value for own in self._own.values() for value in _named(own).values()]
        containers = [value for value in values if type(value) in (list, dict)]
        containers += [own[name] for own in self._own.values() for name in _REGISTRIES]
        # By identity, and the containers are held so that none takes the place of another.
        self._entries = {id(value): (value, value.copy()) for value in containers}
        self._tensors = [
            (value, value.detach().clone()) for value in values if isinstance(value, Tensor)
        ]

    def replaced(self, by: Callable[[Any], bool]) -> dict[str, Any]:
        """Returns what attributes held that hold something else now, by path.

        Args:
            by: Tells which count, from what they hold now.
        """
        found: dict[str, Any] = {}
        for module, path in self._paths.items():
            old = _named(self._own[module]) | self._entries[id(module._buffers)][1]
            new = _named(vars(module)) | module._buffers
            for name in old.keys() & new.keys():
                if self._is_other(old[name], new[name]) and by(new[name]):
                    found[f"{path}.{name}" if path else name] = old[name]
        return found

    def _is_other(self, old: Any, new: Any) -> bool:
        if new is not old or id(old) not in self._entries:
            return new is not old
        return not _same(*self._entries[id(old)])

    def restore(self) -> None:
        """Gives every module the attributes that it had."""
        for module, own in self._own.items():
            if not _same(vars(module), own):
                vars(module).clear()
                vars(module).update(own)
        for container, entries in self._entries.values():
            if not _same(container, entries):
                container.clear()
                (container.extend if isinstance(container, list) else container.update)(entries)
        for tensor, value in self._tensors:
            if not tensor.is_meta and not torch.equal(tensor, value):
                tensor.detach().copy_(value)


def _named(own: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in own.items() if name not in _BOOKKEEPING}


def _same(mine: Any, others: Any) -> bool:
    """Whether two lists or two dicts hold the same objects."""
    if isinstance(mine, dict):
        return list(mine) == list(others) and _same(list(mine.values()), list(others.values()))
    return len(mine) == len(others) and all(a is b for a, b in zip(mine, others, strict=True))


@contextmanager
def attributes_kept(model: nn.Module) -> Iterator[Attributes]:
    """Restores after a block what modules hold: attributes, lists and dicts in them, tensors."""
    kept = Attributes(model)
    try:
        yield kept
    finally:
        with torch.inference_mode(False), torch.no_grad():
            kept.restore()


@contextmanager
def unchanged(model: nn.Module) -> Iterator[Attributes]:
    """Runs a block in eval mode and without gradients, then restores the model.

    Train modes, buffers, the CPU random state, and what the forward pass stores on modules are as
    before afterwards.
    """
    with attributes_kept(model) as kept, undisturbed(model):
        yield kept

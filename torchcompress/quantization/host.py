"""A model around its parts: parts are taken out and others put in their place."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import Tensor, nn

from torchcompress.core.errors import ArtifactError, CompressError
from torchcompress.core.inputs import map_tensors, tensors_in
from torchcompress.core.modules import copied
from torchcompress.quantization.binding import PLAIN
from torchcompress.quantization.calibrate import Batches, named_failures
from torchcompress.quantization.unchanged import unchanged

M = TypeVar("M", bound=nn.Module)

_Call = tuple[tuple[Any, ...], dict[str, Any]]
_MOST_KEPT = 2**28
"""Bytes of the inputs of one part that are kept."""

_BOOKKEEPING = vars(nn.Module()).keys()


def keep_settings(old: nn.Module, new: nn.Module) -> None:
    """Gives a module the plain attributes of the one that it stands for: code may read them."""
    for name, value in vars(old).items():
        if name not in _BOOKKEEPING and _is_plain(value):
            vars(new).setdefault(name, value)


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return isinstance(value, PLAIN)


def holders(model: nn.Module, module: nn.Module) -> list[tuple[nn.Module, str]]:
    """Returns every place of a module in a model: its parent and the name there."""
    return [
        (parent, name)
        for parent in model.modules()
        for name, child in parent._modules.items()
        if child is module
    ]


@contextmanager
def replaced(model: nn.Module, others: Mapping[str, nn.Module]) -> Iterator[None]:
    """Puts modules in the place of others for a block.

    Args:
        model: The model.
        others: By path, one of several where a module stands at several.
    """
    places = []
    for path, other in others.items():
        module = model.get_submodule(path)
        places += [(module, other, *place) for place in holders(model, module)]
    try:
        for _, other, parent, name in places:
            parent._modules[name] = other
        yield
    finally:
        for module, _, parent, name in places:
            parent._modules[name] = module


def with_modules(model: M, others: Mapping[str, nn.Module]) -> M:
    """Returns a copy of a model, in eval mode, with modules in the place of others.

    What is replaced is not copied. The others take over its plain attributes.

    Args:
        model: The model.
        others: By path.

    Raises:
        CompressError: A path that leads nowhere.
        UnsupportedError: The model cannot be copied.
    """
    memo: dict[int, Any] = {}
    for path, other in others.items():
        try:
            module = model.get_submodule(path)
        except AttributeError as error:
            hint = "the plan was made for another architecture"
            raise CompressError("the model has no such module", where=path, hint=hint) from error
        keep_settings(module, other)
        memo[id(module)] = other
    return copied(model, memo).eval()


def check_paths(paths: Collection[str]) -> None:
    """Checks that paths lead to modules of which none holds another.

    Raises:
        ArtifactError: They do not.
    """
    for path in paths:
        names = path.split(".")
        inside = any(".".join(names[:n]) in paths for n in range(len(names)))
        if path and (not all(names) or inside or "" in paths):
            raise ArtifactError("is no part beside the others", where=f"plan.parts.{path}")


@dataclass
class PartBatches(Batches):
    """Calibration data as one part of a model meets it: the model runs around the part.

    What the part is called with is kept for the first batch, and for others up to a limit, so that
    further passes need not run the model.

    Args:
        host: The model, in eval mode.
        path: Of the part.
        first_index: The first batch that reaches the part.
    """

    host: nn.Module = field(kw_only=True)
    path: str = field(kw_only=True)
    _kept: dict[int, list[_Call]] = field(default_factory=dict, init=False, repr=False)
    _bytes: int = field(default=0, init=False, repr=False)

    def call(self, model: nn.Module, index: int, inputs: Any) -> list[Any]:
        """Runs a module in place of the part.

        Returns:
            What that module returned, call by call.

        Raises:
            CalibrationError: The host does not take the batch.
        """
        if index in self._kept:
            with named_failures(index):
                return [model(*args, **kwargs) for args, kwargs in self._kept[index]]
        original = self.host.get_submodule(self.path)
        if model is not original:
            keep_settings(original, model)
        calls: list[_Call] = []
        made: list[Any] = []
        hooks = [
            model.register_forward_pre_hook(
                lambda _, *given: calls.append(map_tensors(Tensor.clone, given)), with_kwargs=True
            ),
            # A copy: the code around the part may write into what it is given.
            model.register_forward_hook(
                lambda _, __, output: made.append(map_tensors(Tensor.clone, output))
            ),
        ]
        try:
            with unchanged(self.host), replaced(self.host, {self.path: model}):
                super().call(self.host, index, inputs)
        finally:
            for hook in hooks:
                hook.remove()
        self._keep(index, calls)
        return made

    def _keep(self, index: int, calls: list[_Call]) -> None:
        size = sum(tensor.nbytes for _, tensor in tensors_in(calls))
        if index == self.first_index or self._bytes + size <= _MOST_KEPT:
            self._kept[index] = calls
            self._bytes += size

    def release(self) -> None:
        """Forgets what the part was called with."""
        self._kept, self._bytes = {}, 0

"""Which module is running, and what it was called with."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from torchcompress.graph.labels import Labels


@dataclass(frozen=True)
class Call:
    """What a module was called with last.

    Attributes:
        shape: Shape of its first input.
        labels: Labels of that input.
    """

    shape: tuple[int, ...]
    labels: Labels


class Running:
    """Follows which of a model's modules is running.

    Args:
        model: The model.
    """

    def __init__(self, model: nn.Module) -> None:
        self._paths = {id(module): path for path, module in model.named_modules()}
        self._running: list[str] = []

    @property
    def running(self) -> str:
        """Path of the innermost module that runs; empty for the model itself."""
        return self._running[-1] if self._running else ""

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Follows the calls that happen in a block."""
        before = register_module_forward_pre_hook(self._enter)
        after = register_module_forward_hook(self._leave, always_call=True)
        try:
            yield
        finally:
            before.remove()
            after.remove()

    def _enter(self, module: nn.Module, args: tuple[object, ...]) -> None:
        self._running.append(self._paths.get(id(module), self.running))

    def _leave(self, *_: object) -> None:
        self._running.pop()


class Calls(Running):
    """Follows the calls of a model's modules.

    Args:
        model: The model.
        labels: Returns the labels of a tensor.
    """

    def __init__(self, model: nn.Module, labels: Callable[[Tensor], Labels]) -> None:
        super().__init__(model)
        self.by_path: dict[str, Call] = {}
        self._labels = labels

    def _enter(self, module: nn.Module, args: tuple[object, ...]) -> None:
        super()._enter(module, args)
        if id(module) in self._paths and args and isinstance(args[0], Tensor):
            self.by_path[self.running] = Call(tuple(args[0].shape), self._labels(args[0]))

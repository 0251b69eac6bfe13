"""What a model that is cut in the loop may be wrapped in."""

from typing import Any
from weakref import WeakKeyDictionary

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from torchcompress.core.errors import UnsupportedError

_HINT = "wrap the bare model, and again after each cut: ddp = DistributedDataParallel(model)"


def bare(model: nn.Module) -> nn.Module:
    """Returns the model itself where `torch.compile` has wrapped it.

    Raises:
        UnsupportedError: The model is wrapped for data-parallel training.
    """
    inner = getattr(model, "_orig_mod", None)
    if isinstance(inner, nn.Module):
        return bare(inner)
    if isinstance(model, DistributedDataParallel):
        raise UnsupportedError(
            "DistributedDataParallel keeps the sizes that the parameters had when it was made",
            where="model",
            hint=_HINT,
        )
    return model


class StaleWrapGuard:
    """Refuses to run a model in a `DistributedDataParallel` that is older than its last cut.

    Its buckets belong to the gradients of before: they would no longer be averaged over the
    processes. A forward pre-hook of the model.
    """

    def __init__(self) -> None:
        self._wrapped: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()
        self._cuts = 0

    def cut(self) -> None:
        """Takes note of a cut."""
        self._cuts += 1

    def __call__(self, model: nn.Module, args: tuple[Any, ...]) -> None:
        """Looks at what the model runs in.

        Raises:
            UnsupportedError: It was cut since.
        """
        wrap = DistributedDataParallel._active_ddp_module
        if wrap is not None and self._wrapped.setdefault(wrap, self._cuts) < self._cuts:
            raise UnsupportedError(
                "the model was cut after DistributedDataParallel had wrapped it",
                where=type(model).__name__,
                hint=_HINT,
            )

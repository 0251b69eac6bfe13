"""The zeros of a model that is trained: held in its weights, in its averages, in every process."""

from collections.abc import Callable, Sequence
from weakref import WeakSet

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.hooks import RemovableHandle

from torchcompress.core.history import record
from torchcompress.pruning.averages import Average, average_tensors, check_averages, copy_in
from torchcompress.pruning.weights.choice import Masks
from torchcompress.pruning.weights.plan import SparsityPlan, zero


class Zeros:
    """Where a model's weights stay, and sets the others to zero.

    Args:
        model: The model.
        kept: Masks by parameter name: bool, of the weight's shape.
    """

    def __init__(self, model: nn.Module, kept: Masks) -> None:
        self.model = model
        self.kept = kept
        self._averages: tuple[Average, ...] = ()
        self._wrap: DistributedDataParallel | None = None
        self._handle: RemovableHandle | None = None

    def begin(self, averages: Sequence[Average]) -> None:
        """Gets ready for a training.

        Args:
            averages: Averages of the model that are to have the same zeros.

        Raises:
            CompressError: An average that does not fit.
        """
        check_averages(self.model, averages)
        self._averages = tuple(averages)
        parameters = dict(self.model.named_parameters())
        # Masks lie where the weights lie, in the same memory format.
        self.kept = {
            name: torch.empty_like(parameters[name], dtype=torch.bool).copy_(mask)
            for name, mask in self.kept.items()
        }
        if dist.is_available() and dist.is_initialized():
            self._handle = self.model.register_forward_pre_hook(_FirstRun(self._share))

    def end(self) -> None:
        """Lets averages and other processes go."""
        if self._handle is not None:
            self._handle.remove()
        self._averages, self._wrap, self._handle = (), None, None

    def put(self, kept: Masks) -> None:
        """Sets weights and averages to zero by new masks."""
        self.kept = kept if self._wrap is None else _of_the_first(kept, self._wrap)
        self.hold()
        for average in self._averages:
            zero(average_tensors(average), self.kept)

    def note(self, plan: SparsityPlan) -> None:
        """Records a plan in the history of the model, and of averages that are models."""
        record(self.model, plan)
        for average in self._averages:
            if isinstance(average, nn.Module):
                record(copy_in(average), plan)

    def hold(self) -> None:
        """Sets weights to zero again."""
        zero(dict(self.model.named_parameters()), self.kept)

    def _share(self, wrap: DistributedDataParallel) -> None:
        """Takes over the masks of the first of the processes that train the model together.

        `DistributedDataParallel` gives every process the weights of the first one, whose masks
        would otherwise be those of other weights.
        """
        self._wrap = wrap
        self.put(self.kept)


class _FirstRun:
    """A forward pre-hook: calls a function with each wrap of the model when it first runs."""

    def __init__(self, share: Callable[[DistributedDataParallel], None] | None = None) -> None:
        self._share = share
        self._seen: WeakSet[DistributedDataParallel] = WeakSet()

    def __reduce__(self) -> tuple[type["_FirstRun"], tuple[()]]:
        """Copied or pickled along with its model it does nothing any more."""
        return _FirstRun, ()

    def __call__(self, model: nn.Module, args: object) -> None:
        wrap = DistributedDataParallel._active_ddp_module
        if self._share is not None and wrap is not None and wrap not in self._seen:
            self._seen.add(wrap)
            self._share(wrap)


def _of_the_first(masks: Masks, wrap: DistributedDataParallel) -> Masks:
    """Returns the masks of the first of the processes that train a model together."""
    shared = {name: mask.byte() for name, mask in masks.items()}
    for mask in shared.values():
        dist.broadcast(mask, group=wrap.process_group, group_src=0)
    return {name: mask.bool() for name, mask in shared.items()}

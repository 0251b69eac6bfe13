"""What a model that is cut in the loop may be wrapped in."""

from typing import Any
from weakref import WeakKeyDictionary

import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from torchcompress.core.errors import UnsupportedError
from torchcompress.core.modules import unwrapped
from torchcompress.pruning.plan import PruningPlan

_HINT = "wrap the bare model, and again after each cut: ddp = DistributedDataParallel(model)"


def bare(model: nn.Module) -> nn.Module:
    """Returns the model itself where `torch.compile` or `nn.DataParallel` has wrapped it.

    Raises:
        CompressError: It is no module.
        UnsupportedError: The model is wrapped for distributed training, or scripted.
    """
    inner = unwrapped(model)
    if any(isinstance(module, DistributedDataParallel) for module in model.modules()):
        raise UnsupportedError(
            "DistributedDataParallel keeps the sizes that the parameters had when it was made",
            where="model",
            hint=_HINT,
        )
    return inner


class WrapGuard:
    """Sees to it that processes which train a model together cut it alike and average all of it.

    A forward pre-hook of the model. The buckets of a `DistributedDataParallel` that is older than
    the last cut belong to the gradients of before, which would no longer be averaged.
    """

    def __init__(self) -> None:
        self._wrapped: WeakKeyDictionary[DistributedDataParallel, int] = WeakKeyDictionary()
        self._cuts = 0

    def __reduce__(self) -> tuple[type["WrapGuard"], tuple[()]]:
        """Copied or pickled along with its model it begins anew: no wrap goes along."""
        return WrapGuard, ()

    def cut(self) -> None:
        """Takes note of a cut."""
        self._cuts += 1

    def agree(self, plan: PruningPlan) -> PruningPlan:
        """Returns the plan of the first of the processes that train the model together.

        Each plans on its own, and data of its own may give it another plan.
        """
        wrap = next(iter(self._wrapped), None)
        if wrap is None:
            return plan
        plans = [plan.to_json()]
        dist.broadcast_object_list(plans, group=wrap.process_group, group_src=0)
        return PruningPlan.from_json(plans[0])

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

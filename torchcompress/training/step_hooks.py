"""Hooks on the steps of optimizers, which a copy has on the copies of these."""

import copy
from collections.abc import Callable, Sequence
from typing import Any, Self

from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

Hook = Callable[..., None]


class StepHooks:
    """Calls a method of its owner before and one after each step of some optimizers.

    Copied along with its owner and the optimizers, the copy does the same for the copies: torch
    itself copies an optimizer without its hooks.

    Attributes:
        optimizers: Those whose steps are watched now.
    """

    def __init__(self) -> None:
        self.optimizers: tuple[Optimizer, ...] = ()
        self._hooks: tuple[Hook | None, Hook | None] = (None, None)
        self._handles: list[RemovableHandle] = []

    def begin(
        self, optimizers: Sequence[Optimizer], *, after: Hook, before: Hook | None = None
    ) -> None:
        """Watches optimizers.

        Args:
            optimizers: Which.
            after: Called with the optimizer, its arguments and keyword arguments after a step.
            before: Likewise before a step.
        """
        self.optimizers, self._hooks = tuple(optimizers), (before, after)
        for optimizer in optimizers:
            if before is not None:
                self._handles.append(optimizer.register_step_pre_hook(before))
            self._handles.append(optimizer.register_step_post_hook(after))

    def end(self) -> None:
        """Watches none any more."""
        for handle in self._handles:
            handle.remove()
        self.__init__()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        made = type(self)()
        memo[id(self)] = made
        before, after = copy.deepcopy(self._hooks, memo)
        if after is not None:
            made.begin(copy.deepcopy(self.optimizers, memo), before=before, after=after)
        return made

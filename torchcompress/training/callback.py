"""What takes part in a training without the training loop knowing it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from torch.optim import Optimizer

from torchcompress.training.config import TrainerConfig
from torchcompress.training.loader import TrainLoader

Row = dict[str, float]
"""One line of the history: numbers by name."""


@dataclass
class Run:
    """A training under way.

    Args:
        model: What is trained.
        optimizer: Its optimizer.
        config: How it is trained.
        callbacks: Who takes part, in the order of their calls.
        train: The loader of the training batches.
        epoch: Epochs begun and ended; while one runs, its number counted from 0.
        step: Position over all epochs, counted from 0.
        history: One row for each epoch that has ended.
    """

    model: nn.Module
    optimizer: Optimizer
    config: TrainerConfig
    callbacks: Sequence["Callback"]
    train: TrainLoader
    epoch: int = 0
    step: int = 0
    history: list[Row] = field(default_factory=list)

    def notify(self, event: str) -> None:
        """Calls the method `event` of each callback."""
        for callback in self.callbacks:
            getattr(callback, event)(self)


class Callback:
    """Takes part in a training: every method may be overridden, and does nothing by itself.

    A callback that keeps state between epochs gives it out by `state_dict`, as tensors, numbers,
    strings, lists and dicts; a resumed training hands it back after `on_fit_start`.
    """

    @property
    def done(self) -> bool | None:
        """Whether the target that it brings the model to is reached; None where it has none."""
        return None

    def on_fit_start(self, run: Run) -> None:
        """The optimizer exists; nothing is trained yet."""

    def on_epoch_start(self, run: Run) -> None:
        """The model is in train mode; an epoch begins."""

    def on_before_step(self, run: Run) -> None:
        """Gradients are computed and clipped; the optimizer has not stepped."""

    def on_step_end(self, run: Run) -> None:
        """The optimizer has stepped."""

    def on_eval_start(self, run: Run) -> None:
        """The model is about to be evaluated."""

    def on_eval_end(self, run: Run) -> None:
        """The model has been evaluated, or the evaluation failed."""

    def on_epoch_end(self, run: Run) -> None:
        """The epoch's row stands in the history."""

    def on_fit_end(self, run: Run) -> None:
        """All epochs are done."""

    def rebuild(self, model: nn.Module, state: dict[str, Any]) -> None:
        """Gives a model as the training began with the shapes it had when `state` was given out.

        A resumed training calls it before the model's tensors are filled in, once on a copy.
        """

    def state_dict(self) -> dict[str, Any]:
        """Returns what a resumed training needs."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what `state_dict` gave."""


Companion = Callable[[nn.Module], Callback | None]
"""Returns who must take part whenever a model is trained, or None."""

_COMPANIONS: list[Companion] = []


def companion(factory: Companion) -> Companion:
    """Lets a factory be asked about each model that a `Trainer` trains; usable as a decorator.

    Args:
        factory: Looks at the model, such as at its history.
    """
    _COMPANIONS.append(factory)
    return factory


def companions(model: nn.Module) -> list[Callback]:
    """Returns who must take part when a model is trained."""
    found = (factory(model) for factory in _COMPANIONS)
    return [callback for callback in found if callback is not None]

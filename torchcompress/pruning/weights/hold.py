"""Zeros that stay zero while a model is trained."""

from collections.abc import Sequence
from typing import Any, Self

from torch import nn
from torch.optim import Optimizer

from torchcompress.core.errors import CompressError
from torchcompress.core.history import history
from torchcompress.core.modules import unwrapped
from torchcompress.pruning.averages import Average, as_averages
from torchcompress.pruning.optimizer_state import check_train
from torchcompress.pruning.weights.choice import Masks
from torchcompress.pruning.weights.plan import SparsityPlan
from torchcompress.pruning.weights.state import check_state
from torchcompress.pruning.weights.zeros import Zeros
from torchcompress.training.callback import Callback, Run, companion
from torchcompress.training.step_hooks import StepHooks


def held_zeros(model: nn.Module) -> Masks:
    """Returns where the weights stay that a `SparsityPlan` in the model's history is about.

    What counts is where they are zero now, since a later stage may have cut them to another shape.

    Args:
        model: The model; parts of it may have a history of their own.

    Returns:
        Masks by parameter name: bool, of the weight's shape, False where it is zero.
    """
    parameters = dict(model.named_parameters())
    names = [
        f"{path}.{name}" if path else name
        for path, module in model.named_modules()
        for plan in history(module)
        if isinstance(plan, SparsityPlan)
        for name in plan.kept
    ]
    return {name: parameters[name].detach() != 0 for name in names if name in parameters}


class HoldZeros(Callback):
    """Holds the zeros of a model that a `SparsityPlan` made, whatever an optimizer does.

    A `tc.Trainer` does so by itself. In a loop of one's own::

        HoldZeros(model).attach(optimizer)

    After each step of the optimizer they are set to zero again, so that neither momentum nor
    gradients revive them.

    Args:
        model: A model whose history names its zeros.

    Raises:
        CompressError: Its history names none.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = unwrapped(model)
        self._zeros = Zeros(self.model, held_zeros(self.model))
        self._hooks = StepHooks()
        if not self.kept:
            raise CompressError(
                "no SparsityPlan in its history names zeros",
                where=type(self.model).__name__,
                hint="prune it by MagnitudePruner, sparsify or plan.apply",
            )

    @property
    def kept(self) -> Masks:
        """Where weights stay, by name: bool, of the weight's shape."""
        return self._zeros.kept

    def attach(self, *optimizers: Optimizer, ema: Average | Sequence[Average] = ()) -> Self:
        """Takes part in a training.

        Args:
            *optimizers: Every optimizer that trains the model.
            ema: Averages of the model: a copy, an `AveragedModel`, or several.

        Raises:
            CompressError: An optimizer or average that does not fit, or attached already.
        """
        averages = as_averages(ema)
        if self._hooks.optimizers:
            raise CompressError("it is attached already", where="attach", hint="close it first")
        check_train(self.model, optimizers)
        self._zeros.begin(averages)
        self._zeros.put(self.kept)
        self._hooks.begin(optimizers, after=self._after_step)
        return self

    def close(self) -> None:
        """Leaves the training: nothing is held any more."""
        self._hooks.end()
        self._zeros.end()

    def on_fit_start(self, run: Run) -> None:
        """Attaches itself to the optimizer of a run."""
        self.attach(run.optimizer)

    def on_fit_end(self, run: Run) -> None:
        """Leaves the run."""
        self.close()

    def state_dict(self) -> dict[str, Any]:
        """Returns the masks."""
        return {"kept": self.kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what `state_dict` gave.

        Raises:
            CompressError: Something else, or the masks of another model.
        """
        check_state(state, self.state_dict(), type(self.model).__name__)
        self._zeros.kept = {n: state["kept"][n].to(m.device) for n, m in self.kept.items()}

    def _after_step(self, optimizer: Optimizer, args: object, kwargs: object) -> None:
        self._zeros.hold()


@companion
def _hold_zeros(model: nn.Module) -> Callback | None:
    inner = unwrapped(model)
    return HoldZeros(inner) if held_zeros(inner) else None

"""When a quantization-aware training stops following batch statistics and ranges."""

from typing import Any, Self

from torch import nn
from torch.optim import Optimizer

from torchcompress.core.errors import CompressError
from torchcompress.core.modules import unwrapped
from torchcompress.quantization.qat.prepared import FakeQuantizers, quantizers_in
from torchcompress.training.callback import Callback, Run, companion
from torchcompress.training.config import check_number
from torchcompress.training.step_hooks import StepHooks


def freeze_norms(model: nn.Module, frozen: bool = True) -> None:
    """Lets the batch norms of a prepared model use their running statistics in train mode too.

    They are then folded into the weights, as in the int8 model; gamma and beta go on training
    (Krishnamoorthi 2018, "Quantizing Deep Convolutional Networks for Efficient Inference").

    Args:
        model: A model that `prepare_qat` made.
        frozen: False lets them follow the batches again.

    Raises:
        UnsupportedError: The model is not prepared.
    """
    for quantizers in quantizers_in(model):
        quantizers.norms_frozen = frozen


def freeze_ranges(model: nn.Module, frozen: bool = True) -> None:
    """Keeps the ranges of a prepared model's activations as they are; learned ones go on learning.

    Args:
        model: A model that `prepare_qat` made.
        frozen: False lets them follow the batches again.

    Raises:
        UnsupportedError: The model is not prepared.
    """
    for quantizers in quantizers_in(model):
        quantizers.ranges.observing = not frozen


class FreezeSchedule(Callback):
    """Freezes batch norms, then ranges, at a share of the steps of a training.

    A `tc.Trainer` does so by itself with the defaults. In a loop of one's own::

        FreezeSchedule(model, steps).attach(optimizer)

    Args:
        model: A model that `prepare_qat` made.
        steps: Steps of the optimizer in the whole training; a `tc.Trainer` knows them.
        norms: The share after which batch norms use their running statistics, 0 to 1.
        ranges: The share after which the ranges of activations stay, 0 to 1.

    Raises:
        UnsupportedError: The model is not prepared.
        CompressError: A number out of range.
    """

    def __init__(
        self, model: nn.Module, steps: int | None = None, *, norms: float = 0.3, ranges: float = 0.4
    ) -> None:
        self.model = unwrapped(model)
        self.steps = steps
        self.norms = norms
        self.ranges = ranges
        self._taken = 0
        self._hooks = StepHooks()
        quantizers_in(self.model)
        if steps is not None:
            check_number("steps", steps, above=0)
        check_number("norms", norms, least=0, below=1 + 1e-9)
        check_number("ranges", ranges, least=0, below=1 + 1e-9)

    def attach(self, optimizer: Optimizer) -> Self:
        """Counts the steps of an optimizer from now on.

        Args:
            optimizer: The one that trains the model.

        Raises:
            CompressError: It is attached already, or was not told the number of steps.
        """
        if self._hooks.optimizers:
            raise CompressError("it is attached already", where="attach", hint="close it first")
        self._freeze_before(self._taken)
        self._hooks.begin([optimizer], after=self._after_step)
        return self

    def close(self) -> None:
        """Leaves the training; what is frozen stays so."""
        self._hooks.end()

    def on_fit_start(self, run: Run) -> None:
        """Learns how long the training is."""
        self.steps = run.config.epochs * len(run.train)

    def on_epoch_start(self, run: Run) -> None:
        """Freezes what is due, in a resumed training too."""
        self._freeze_before(run.epoch * len(run.train))

    def on_step_end(self, run: Run) -> None:
        """Freezes what is due at the next step."""
        self._freeze_before(run.step + 1)

    def state_dict(self) -> dict[str, Any]:
        """Returns how many steps were taken since `attach`."""
        return {"taken": self._taken}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what `state_dict` gave."""
        self._taken = state["taken"]

    def _after_step(self, optimizer: Optimizer, args: object, kwargs: object) -> None:
        self._taken += 1
        self._freeze_before(self._taken)

    def _freeze_before(self, step: int) -> None:
        if self.steps is None:
            raise CompressError("how many steps the training has is not known", where="steps")
        freeze_norms(self.model, step >= self.norms * self.steps)
        freeze_ranges(self.model, step >= self.ranges * self.steps)


@companion
def _freeze_schedule(model: nn.Module) -> Callback | None:
    inner = unwrapped(model)
    prepared = any(isinstance(module, FakeQuantizers) for module in inner.modules())
    return FreezeSchedule(inner) if prepared else None

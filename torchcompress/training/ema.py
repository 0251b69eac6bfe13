"""The exponential moving average of a model (Polyak and Juditsky, 1992)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from torchcompress.core.modules import named_tensors
from torchcompress.training.callback import Callback, Run
from torchcompress.training.precision import at_least_float32


class EMA(Callback):
    """Averages weights and buffers over the steps; at the end the model holds the averages.

    The mean after n steps is `d * mean + (1 - d) * value`, where d is the smaller of `decay` and
    `(1 + n) / (10 + n)`, so that the first weights are soon forgotten. BatchNorm's running
    statistics are averaged like the weights that they belong to; integers are copied. Evaluations
    see the averages. They are kept in float32 where the model has less.

    Args:
        decay: The share that the mean keeps at each step, from 0 to below 1.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self._steps = 0
        self._mean: dict[str, Tensor] = {}
        self._trained: dict[str, Tensor] = {}

    def on_fit_start(self, run: Run) -> None:
        """Begins with the model as it is."""
        self._steps = 0
        self._mean = {name: _wide(t).clone() for name, t in named_tensors(run.model).items()}

    @torch.no_grad()
    def on_step_end(self, run: Run) -> None:
        """Moves the means towards the model."""
        self._steps += 1
        decay = min(self.decay, (1 + self._steps) / (10 + self._steps))
        means: list[Tensor] = []
        values: list[Tensor] = []
        for name, value in named_tensors(run.model).items():
            mean = self._mean[name]
            if mean.is_floating_point():
                means.append(mean)
                values.append(_wide(value))
            else:
                mean.copy_(value)
        get_ema_multi_avg_fn(decay)(means, values, self._steps)

    def on_eval_start(self, run: Run) -> None:
        """Puts the means into the model and sets the trained values aside."""
        self._trained = {n: t.detach().clone() for n, t in named_tensors(run.model).items()}
        _fill(run, self._mean)

    def on_eval_end(self, run: Run) -> None:
        """Gives the model its trained values back."""
        _fill(run, self._trained)
        self._trained = {}

    def on_fit_end(self, run: Run) -> None:
        """Leaves the means in the model."""
        _fill(run, self._mean)

    @property
    def mean(self) -> Mapping[str, Tensor]:
        """The averages by name."""
        return self._mean

    def replace(self, mean: Mapping[str, Tensor]) -> None:
        """Goes on from other averages, such as those of a model whose tensors change their shapes.

        Args:
            mean: The averages by name.
        """
        self._mean = dict(mean)

    def state_dict(self) -> dict[str, Any]:
        """Returns the means and the number of steps."""
        return {"steps": self._steps, "mean": self._mean}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what `state_dict` gave."""
        self._steps = state["steps"]
        self._mean = {
            name: state["mean"][name].to(mean, copy=True) for name, mean in self._mean.items()
        }


def _wide(value: Tensor) -> Tensor:
    value = value.detach()
    return at_least_float32(value) if value.is_floating_point() else value


@torch.no_grad()
def _fill(run: Run, values: dict[str, Tensor]) -> None:
    for name, tensor in named_tensors(run.model).items():
        tensor.copy_(values[name])

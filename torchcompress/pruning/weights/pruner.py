"""Pruning of weights by their magnitude, inside a training loop or at once."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from torchcompress.core.errors import CompressError
from torchcompress.core.modules import unwrapped
from torchcompress.core.target import Target
from torchcompress.pruning.averages import Average, as_averages
from torchcompress.pruning.layer_globs import globs
from torchcompress.pruning.optimizer_state import check_train
from torchcompress.pruning.schedules import OneShot, Schedule, check_reaches, fraction_at
from torchcompress.pruning.weights.asked import ask
from torchcompress.pruning.weights.choice import Masks
from torchcompress.pruning.weights.dynamic import (
    Movement,
    RigL,
    check_grows,
    check_moves_first,
    forget,
)
from torchcompress.pruning.weights.hold import HoldZeros, held_zeros
from torchcompress.pruning.weights.pattern import Pattern
from torchcompress.pruning.weights.plan import SparsityPlan, sparsity_table
from torchcompress.pruning.weights.selection import Selection, prunable_weights
from torchcompress.pruning.weights.state import check_state
from torchcompress.pruning.weights.zeros import Zeros
from torchcompress.training.callback import Callback, Run
from torchcompress.training.ema import EMA
from torchcompress.training.precision import at_least_float32
from torchcompress.training.step_hooks import StepHooks


class MagnitudePruner(Callback):
    """Sets weights to zero while a model is trained, the smallest first, and holds them there.

    In a loop of one's own::

        pruner = tc.MagnitudePruner(
            model, tc.Target(sparsity=0.9), schedule=tc.Cubic(end=1000, every=100)
        )
        pruner.attach(optimizer)
        ...
        pruner.finalize()

    From then on the optimizer's steps are counted. After a step at which the schedule moves on,
    more weights become zero; after every step all of them are set to zero again, so that neither
    momentum nor weight decay revives one. It works on the weights themselves: the model keeps its
    parameters and the keys of its state_dict, and can be copied at any moment.

    It is a callback of `tc.Trainer` too, `callbacks=[pruner]`, which attaches and finalizes it.
    Without any training, `MagnitudePruner(model, target).finalize()` prunes at once.

    Zeros that a plan in the model's history names are held as well, so that asking for the same
    sparsity twice gives it once. A training resumes bit-equal on the CPU: load the states of model
    and optimizer and, by `load_state_dict`, the pruner's, then `attach`.

    Args:
        model: What is trained; changed in place. It may be compiled or parallel.
        target: `Target(sparsity=...)`, the fraction of all weights of convolutions, linear layers
            and attention projections that becomes zero; or a threshold on |w| below which weights
            go, one for all or by glob over layers; or None for the sparsity of an n:m pattern.
        scope: Who competes. `global`, the default: all weights. `layer`: those of a layer, each
            layer has the same sparsity. `erk`: those of a layer, whose density goes by the sum of
            its dimensions over their product (Evci et al., 2020). `lamp`: all, by the square over
            the sum of the larger ones of the layer (Lee et al., 2021).
        pattern: `n:m` such as `2:4`: n of any m consecutive input channels stay; `block:4x4`:
            blocks of output times input channels go as a whole; None for single weights.
        schedule: When how much of the way is gone: `OneShot`, `Iterative`, `Cubic`, or a function
            from optimizer steps taken to a fraction. A threshold rises along with it.
        importance: `magnitude`, or `movement`: how far training moves a weight from zero (Sanh et
            al., 2020).
        growth: A `RigL` moves zeros while the model is trained (Evci et al., 2020).
        exclude: Globs over layers that stay as they are.
        keep_ends: Whether the first convolution and the classifier stay too.

    Raises:
        CompressError: A target, threshold, glob or combination that could have no effect.
        TargetUnreachable: The weights that may go are not enough.
        UnsupportedError: A pattern that does not divide a layer.
    """

    def __init__(
        self,
        model: nn.Module,
        target: Target | float | Mapping[str, float] | None = None,
        *,
        scope: str | None = None,
        pattern: str | Pattern | None = None,
        schedule: Schedule = OneShot(),  # noqa: B008
        importance: Literal["magnitude", "movement"] = "magnitude",
        growth: RigL | None = None,
        exclude: Iterable[str] = (),
        keep_ends: bool = True,
    ) -> None:
        self.model = unwrapped(model)
        self.schedule = schedule
        self.growth = growth
        self.steps = 0
        fraction_at(schedule, 0)
        self._options = {"exclude": globs(exclude, "exclude"), "keep_ends": keep_ends}
        self._reached = 0.0
        self._hooks = StepHooks()
        self._made: SparsityPlan | None = None
        self._selection = self._select()
        whole = {
            w.name: torch.ones_like(w.parameter, dtype=torch.bool) for w in self._selection.free
        }
        self._zeros = Zeros(self.model, whole | held_zeros(self.model))
        self.asked = ask(self._selection, target, scope, pattern, importance)
        self._movement = Movement(self._selection.free) if importance == "movement" else None
        self.asked.choice.check(self._scores(), self.kept)
        if self._movement is not None:
            check_moves_first(schedule)
        if growth is not None:
            dense = all(bool(mask.all()) for mask in self.kept.values())
            check_grows(growth, schedule if dense else None, self.asked.pattern)

    @property
    def done(self) -> bool:
        """Whether the target is reached."""
        return self._reached == 1

    @property
    def kept(self) -> Masks:
        """Where weights stay so far, by name: bool, of the weight's shape."""
        return self._zeros.kept

    @property
    def plan(self) -> SparsityPlan:
        """What is zero so far, as a plan."""
        shapes = {w.name: tuple(w.parameter.shape) for w in self._selection.weights}
        return SparsityPlan(
            target=self.asked.target,
            pattern=self.asked.pattern,
            shapes=shapes,
            kept={n: mask.cpu() for n, mask in self.kept.items() if n in shapes and not mask.all()},
            notes=self._selection.stays,
        )

    def table(self) -> str:
        """Returns the zeros of each weight as they are now, as a table."""
        weights = {w.name: w.parameter.detach() for w in self._selection.weights}
        zeros = {name: int((weight == 0).sum()) for name, weight in weights.items()}
        sizes = {name: weight.numel() for name, weight in weights.items()}
        return "\n".join(sparsity_table(zeros, sizes, self._selection.stays))

    def attach(self, *optimizers: Optimizer, ema: Average | Sequence[Average] = ()) -> Self:
        """Takes part in a training, and prunes what is due before the first step.

        Args:
            *optimizers: Every optimizer that trains the model; the steps of the first are counted.
            ema: Averages of the model: a copy, an `AveragedModel`, or several.

        Raises:
            CompressError: An optimizer or average that does not fit; attached or finalized
                already.
        """
        self._register(optimizers, as_averages(ema))
        self._begin()
        return self

    def close(self) -> None:
        """Leaves the training: zeros are held no more, and nothing is recorded."""
        self._hooks.end()
        self._zeros.end()

    def finalize(self) -> SparsityPlan:
        """Leaves the training with the zeros in place and records the plan in the model's history.

        Raises:
            CompressError: The schedule was not gone to its end.
        """
        if self._made is None:
            self._begin()
            check_reaches(self.schedule, self.steps)
            self._made = self.plan
            self._zeros.note(self._made)
            self.close()
        return self._made

    def state_dict(self) -> dict[str, Any]:
        """Returns what a resumed training needs: numbers, strings, and tensors by name."""
        moved = {} if self._movement is None else self._movement.scores
        return {
            "steps": self.steps,
            "reached": self._reached,
            "asked": str(self.asked),
            "kept": dict(self.kept),
            "scores": {name: score.clone() for name, score in moved.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what `state_dict` gave.

        Raises:
            CompressError: The training that is resumed asked for something else, or is one of
                another model.
        """
        check_state(state, self.state_dict(), type(self.model).__name__)
        self.steps, self._reached = state["steps"], state["reached"]
        self._zeros.kept = {n: state["kept"][n].to(m.device) for n, m in self.kept.items()}
        if self._movement is not None:
            for name, score in self._movement.scores.items():
                score.copy_(state["scores"][name])

    def on_fit_start(self, run: Run) -> None:
        """Attaches itself to the optimizer and the averages of a run.

        Raises:
            CompressError: The run trains another model or ends before the schedule does.
        """
        if unwrapped(run.model) is not self.model:
            raise CompressError("the trainer trains another model", where="callbacks")
        check_reaches(self.schedule, run.config.epochs * len(run.train))
        for callback in run.callbacks:
            if isinstance(callback, HoldZeros):
                callback.close()  # It would hold what regrowth moves.
        self._register((run.optimizer,), tuple(c for c in run.callbacks if isinstance(c, EMA)))

    def on_epoch_start(self, run: Run) -> None:
        """Prunes what is due before the first step."""
        self._begin()

    def on_fit_end(self, run: Run) -> None:
        """Finalizes.

        Raises:
            CompressError: The schedule was not gone to its end.
        """
        self.finalize()

    def _register(self, optimizers: Sequence[Optimizer], averages: Sequence[Average]) -> None:
        attached = bool(self._hooks.optimizers)
        if attached or self._made is not None:
            state = "attached" if attached else "finalized"
            hint = "close it first" if attached else "make another pruner"
            raise CompressError(f"it is {state} already", where="attach", hint=hint)
        check_train(self.model, optimizers)
        self._zeros.begin(averages)
        self._selection = self._select()
        self._hooks.begin(optimizers, before=self._before_step, after=self._after_step)

    def _before_step(
        self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        if self._movement is None or _skipped(optimizer):
            return
        if any(value is not None for value in (*args[1:], kwargs.get("closure"))):
            raise CompressError(
                "a closure would compute the gradients only later",
                where="importance",
                hint="call backward() before optimizer.step()",
            )
        self._movement.add(self._selection.free, optimizer)

    def _after_step(self, optimizer: Optimizer, args: object, kwargs: object) -> None:
        self._zeros.hold()
        if optimizer is not self._hooks.optimizers[0] or _skipped(optimizer):
            return
        self.steps += 1
        self._advance()
        if self.growth is not None and self.growth.moves(self.steps):
            self._grow(self.growth)

    def _begin(self) -> None:
        """Sets to zero what is held, and what is due before a step."""
        self._zeros.put(self.kept)
        self._advance()

    def _advance(self) -> None:
        """Sets to zero what is due."""
        fraction = fraction_at(self.schedule, self.steps)
        if fraction > self._reached:
            self._zeros.put(self.asked.choice(self._scores(), self.kept, fraction))
            self._reached = fraction

    def _grow(self, growth: RigL) -> None:
        moved = growth(self._selection.free, self.kept, self.steps)
        for weight in self._selection.free:
            if weight.name in moved:
                grown = moved[weight.name] & ~self.kept[weight.name]
                forget(self._hooks.optimizers, weight, grown)
        self._zeros.put(self.kept | moved)

    @torch.no_grad()
    def _scores(self) -> dict[str, Tensor]:
        """Returns what the choice goes by: one score a weight, by name.

        Raises:
            CompressError: A weight that is not finite.
        """
        scores = {w.name: at_least_float32(w.parameter).abs() for w in self._selection.free}
        for name, score in scores.items():
            if not score.isfinite().all():
                raise CompressError(
                    "holds NaN or infinity", where=name, hint="prune a model that is finite"
                )
        return scores if self._movement is None else self._movement.scores

    def _select(self) -> Selection:
        return prunable_weights(self.model, **self._options)


def _skipped(optimizer: Optimizer) -> bool:
    """Whether a `GradScaler` skips the step of an optimizer whose hooks are called all the same.

    A fused optimizer leaves its parameters alone then; others do not step.
    """
    return bool(getattr(optimizer, "found_inf", None))

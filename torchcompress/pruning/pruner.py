"""Channel pruning inside a training loop."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Self, Unpack

import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from torchcompress.core.errors import CompressError, UnsupportedError
from torchcompress.core.history import history
from torchcompress.core.inputs import Inputs
from torchcompress.core.plan import plan_from_json, plan_to_json
from torchcompress.core.target import Target
from torchcompress.graph.groups import Group, channel_groups
from torchcompress.graph.tracer import trace
from torchcompress.pruning.averages import (
    Average,
    as_averages,
    check_averages,
    cut_averages,
)
from torchcompress.pruning.channels import PlanOptions, plan_channels
from torchcompress.pruning.layer_globs import globs
from torchcompress.pruning.optimizer_state import check_optimizers, cut_states
from torchcompress.pruning.plan import PruningPlan
from torchcompress.pruning.regularizers import (
    Penalty,
    Regularizer,
    add_gradients,
    check_served,
    find_regularizer,
    penalised,
)
from torchcompress.pruning.schedules import OneShot, Schedule, check_reaches, fraction_at
from torchcompress.pruning.surgery import Removal, removal_from_json, removal_to_json
from torchcompress.pruning.wrapped import WrapGuard, bare
from torchcompress.training.callback import Callback, Run
from torchcompress.training.ema import EMA


class ChannelPruner(Callback):
    """Cuts channels of a model while it is trained.

    In a loop of one's own::

        schedule = tc.Cubic(end=1000, every=100)
        tc.ChannelPruner(model, x, tc.Target(macs=0.5), schedule=schedule).attach(optimizer)

    From then on the optimizer's steps are counted. After a step at which the schedule moves on, a
    plan is made for the model as it then is, proved, and applied in place: parameters stay the
    same objects; their gradients, the optimizer's state and averages are cut along; learning
    rates and their schedulers are untouched. Until the last cut a regularizer's gradient is added
    right before each step, after any unscaling and clipping.

    It is a callback of `tc.Trainer` too, `callbacks=[pruner]`, which attaches it by itself.

    Each cut is recorded in the model's history. A training resumes bit-equal on the CPU: build the
    fresh model and pruner as at first, then `pruner.load_state_dict`, which cuts the model, then
    load the model's and the optimizer's state, then `attach`.

    Args:
        model: What is trained; changed in place. Compiled is fine; under
            `DistributedDataParallel` the bare model, wrapped again after each cut.
        x: Example inputs.
        target: What remains in the end: channels, macs or params.
        schedule: When how much of the way is gone: `OneShot`, `Iterative`, `Cubic`, or a function
            from optimizer steps taken to a fraction.
        regularizer: `bn`, `group_lasso`, `growing`, one of `pruning.regularizers` with options, or
            None.
        **options: As in `plan_channels`.

    Raises:
        CompressError: As in `plan_channels`, or a pruner that could have no effect.
        UnsupportedError: A model in `DistributedDataParallel`, or a target of another quantity.
    """

    def __init__(
        self,
        model: nn.Module,
        x: Inputs,
        target: Target,
        *,
        schedule: Schedule = OneShot(),  # noqa: B008
        regularizer: str | Regularizer | None = None,
        **options: Unpack[PlanOptions],
    ) -> None:
        if target.quantity not in ("channels", "macs", "params"):
            raise UnsupportedError(
                f"a training loop cannot cut towards {target}",
                where="target",
                hint="give channels, macs or params",
            )
        self.model = bare(model)
        self.x = x
        self.target = target
        self.schedule = schedule
        self.regularizer = find_regularizer(regularizer)
        self.steps = 0
        self._options = options
        self._options["exclude"] = globs(options.get("exclude", ()), "exclude")
        if isinstance(options.get("data"), Iterator):
            raise CompressError(
                "is an iterator, which only the first plan could read",
                where="data",
                hint="give a list of batches or a DataLoader",
            )
        begin = fraction_at(schedule, 0)
        self._reached = 0.0
        self._before = len(history(self.model))
        self._handles: list[RemovableHandle] = []
        self._optimizers: tuple[Optimizer, ...] = ()
        self._averages: tuple[Average, ...] = ()
        self._guard = WrapGuard()
        self._penalty: Penalty | None = None
        self._going: Removal | None = None
        if self.regularizer is not None and begin == 1:
            raise CompressError(
                "has no step to act in before the last cut",
                where="regularizer",
                hint="let the schedule end later, such as OneShot(1000)",
            )
        self._first = plan_channels(self.model, x, target, **self._options)
        if not self._first.removed:
            raise CompressError(f"{target} takes nothing away", where="target")
        self._penalised: set[str] = set()
        if self.regularizer is not None:
            groups = self._free_groups()
            penalty = self.regularizer.bind(self.model, groups, lambda: self._first.removed)
            self._penalised = penalised(self.model, penalty)

    @property
    def plans(self) -> tuple[PruningPlan, ...]:
        """The cuts so far, oldest first."""
        made = history(self.model)[self._before :]
        return tuple(plan for plan in made if isinstance(plan, PruningPlan))

    @property
    def done(self) -> bool:
        """Whether the target is reached."""
        return self._reached == 1

    def remaining(self) -> dict[str, int]:
        """Returns the `macs` and `params` of the model as it is."""
        if not self.plans:
            return {"macs": self._first.macs[0], "params": self._first.params[0]}
        return {"macs": self.plans[-1].macs[1], "params": self.plans[-1].params[1]}

    def attach(self, *optimizers: Optimizer, ema: Average | Sequence[Average] = ()) -> Self:
        """Takes part in a training, and makes the cut that is due before the first step.

        Args:
            *optimizers: Every optimizer that trains the model; the steps of the first are counted.
            ema: Averages of the model: a copy, an `AveragedModel`, or several.

        Raises:
            CompressError: An optimizer or average that does not fit, or one attached already.
            UnsupportedError: An optimizer whose state cannot be cut.
        """
        self._register(optimizers, as_averages(ema))
        self._advance()
        return self

    def close(self) -> None:
        """Leaves the training: the model stays as it is."""
        for handle in self._handles:
            handle.remove()
        self._handles, self._optimizers, self._averages = [], (), ()

    def state_dict(self) -> dict[str, Any]:
        """Returns what a resumed training needs, as numbers, strings, lists and dicts."""
        return {
            "steps": self.steps,
            "reached": self._reached,
            "plans": [plan_to_json(plan) for plan in self.plans],
            "going": None if self._going is None else removal_to_json(self._going),
            "target": asdict(self.target),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what `state_dict` gave, and makes the cuts that the model does not have yet.

        Raises:
            CompressError: The model is another one, or has been cut otherwise; the target is
                another one; it is attached and there are cuts to make.
        """
        if state["target"] != asdict(self.target):
            raise CompressError(
                f"the training that is resumed has another target than {self.target}",
                where="target",
                hint="resume with its target, or go on with a pruner of the cut model",
            )
        if self._optimizers and len(state["plans"]) > len(self.plans):
            raise CompressError(
                "the state of the optimizers would not be cut along",
                where="load_state_dict",
                hint="load before the optimizer's state, then attach",
            )
        self.rebuild(self.model, state)
        self.steps, self._reached, going = state["steps"], state["reached"], state["going"]
        self._going = None if going is None else removal_from_json(going)
        self._penalty = None

    def rebuild(self, model: nn.Module, state: dict[str, Any]) -> None:
        """Makes the cuts of a training on a model that does not have them yet.

        Args:
            model: A model as the training began with, or with some of its cuts.
            state: What `state_dict` gave.

        Raises:
            CompressError: The model is another one, or has been cut otherwise.
        """
        plans = [plan_from_json(plan) for plan in state["plans"]]
        made = list(history(model)[self._before :])
        if made != plans[: len(made)]:
            raise CompressError(
                "the model has been cut otherwise than the training that is resumed",
                where=type(model).__name__,
                hint="resume with a fresh model",
            )
        for plan in plans[len(made) :]:
            plan.apply(model, inplace=True)

    def on_fit_start(self, run: Run) -> None:
        """Attaches itself to the optimizer and the averages of a run.

        Raises:
            CompressError: The run trains another model or ends before the schedule does.
        """
        if bare(run.model) is not self.model:
            raise CompressError("the trainer trains another model", where="callbacks")
        check_reaches(self.schedule, run.config.epochs * len(run.train))
        self._register((run.optimizer,), tuple(c for c in run.callbacks if isinstance(c, EMA)))

    def on_epoch_start(self, run: Run) -> None:
        """Makes the cut that is due before the first step."""
        self._advance()

    def on_fit_end(self, run: Run) -> None:
        """Leaves the run.

        Raises:
            CompressError: The schedule was not gone to its end.
        """
        self.close()
        check_reaches(self.schedule, self.steps)

    def _register(self, optimizers: Sequence[Optimizer], averages: Sequence[Average]) -> None:
        if self._optimizers:
            raise CompressError("it is attached already", where="attach", hint="close it first")
        check_optimizers(self.model, optimizers)
        check_averages(self.model, averages)
        if not self.done:
            check_served(self.model, self._penalised, optimizers)
        self._optimizers, self._averages = tuple(optimizers), tuple(averages)
        for optimizer in optimizers:
            self._handles.append(optimizer.register_step_pre_hook(self._before_step))
        self._handles.append(optimizers[0].register_step_post_hook(self._after_step))
        self._handles.append(self.model.register_forward_pre_hook(self._guard))

    def _before_step(
        self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        if self.regularizer is None or self.done:
            return
        if any(value is not None for value in (*args[1:], kwargs.get("closure"))):
            raise CompressError(
                "a closure would compute the gradient anew, without the regularizer's",
                where="regularizer",
                hint="call backward() before optimizer.step()",
            )
        if self._penalty is None:
            self._penalty = self.regularizer.bind(self.model, self._free_groups(), self._planned)
        with torch.no_grad():
            add_gradients(optimizer, self._penalty(self.steps))

    def _after_step(self, optimizer: Optimizer, args: object, kwargs: object) -> None:
        # A fused optimizer calls its hooks on a step that a GradScaler skips; others do not step.
        if getattr(optimizer, "found_inf", None):
            return
        self.steps += 1
        self._advance()

    def _advance(self) -> None:
        """Makes the cut that is due, if any."""
        fraction = fraction_at(self.schedule, self.steps)
        if fraction > self._reached:
            plan = self._plan(fraction)
            if plan.removed:
                self._cut(plan)
            self._reached, self._going, self._penalty = fraction, None, None

    def _plan(self, fraction: float) -> PruningPlan:
        """Returns what has to go for a fraction of the way."""
        before = self._options.get("since") or self._first
        quantities = {"macs": before.macs[0], "params": before.params[0]}
        target = self.target.partway(fraction, quantities.get(self.target.quantity, 1))
        ratios = self._options.get("ratios") or {}
        options = self._options.copy()
        options["since"] = before
        options["ratios"] = {glob: 1 - fraction * (1 - kept) for glob, kept in ratios.items()}
        return self._guard.agree(plan_channels(self.model, self.x, target, **options))

    def _cut(self, plan: PruningPlan) -> None:
        """Cuts the model, and all that hangs on its parameters, or nothing."""
        check_averages(self.model, self._averages)
        states = cut_states(self.model, self._optimizers, plan.removed)
        cut_averages(self.model, self._averages, plan)
        plan.apply(self.model, inplace=True)
        for state in states:
            state.put()
        self._guard.cut()

    def _free_groups(self) -> list[Group]:
        """Returns the groups of the model as it is that may lose units."""
        frozen = self._first.frozen
        part = self._options.get("attention", "heads")
        groups = channel_groups(trace(self.model, self.x, attention=part))
        return [g for g in groups if g.frozen is None and g.name not in frozen]

    def _planned(self) -> Removal:
        if self._going is None:
            self._going = self._plan(1.0).removed
        return self._going

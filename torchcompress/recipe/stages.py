"""What each kind of stage does to the model."""

import math
from dataclasses import dataclass
from functools import singledispatch
from pathlib import Path

from torch import Tensor, nn

from torchcompress.core.history import history
from torchcompress.data import Data, Loader
from torchcompress.distillation import DistillationTrainer
from torchcompress.pruning import (
    Cubic,
    MagnitudePruner,
    PruningPlan,
    SparsityPlan,
    plan_channels,
    sparsify,
)
from torchcompress.pruning.channels import PlanOptions
from torchcompress.pruning.fitted import apply_fitted
from torchcompress.pruning.group_cut import GroupCut
from torchcompress.pruning.importance import IMPORTANCES
from torchcompress.pruning.schedules import OneShot, Schedule
from torchcompress.quantization import Int8Model, PartlyInt8Model, quantize
from torchcompress.quantization.qat import convert, prepare_qat
from torchcompress.recipe.section import Section
from torchcompress.recipe.stage_schema import (
    Distill,
    PruneChannels,
    PruneWeights,
    QuantizePtq,
    QuantizeQat,
    Train,
)
from torchcompress.recipe.training_schema import TaughtKeys
from torchcompress.report import Cell, Table
from torchcompress.training import Callback, CSVLog, Trainer, TrainingResult


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a stage may use beside the model.

    Args:
        data: The data set.
        example: The first calibration image, (1, C, H, W).
        teacher: The model as it entered the recipe.
        seed: Where the randomness of the stage comes from.
        log: The CSV file for what happens epoch by epoch.
    """

    data: Data
    example: Tensor
    teacher: nn.Module
    seed: int
    log: Path


_GRADUAL = 0.3
"""The share of a training after which a gradual way has reached its target."""

Outcome = tuple[nn.Module, list[Table]]
"""The model after a stage, and what the report shows about it."""


@singledispatch
def run_stage(stage: Section, model: nn.Module, context: Context) -> Outcome:
    """Runs a stage; the model that it was given may be changed.

    Args:
        stage: What the recipe says; its type decides what is done.
        model: The model after the stage before.
        context: What else may be used.
    """
    raise TypeError(f"{type(stage).__name__} is not a stage")


@run_stage.register
def _(stage: Train, model: nn.Module, context: Context) -> Outcome:
    trainer = Trainer(
        model,
        context.data.train,
        context.data.val,
        stage.config(context.seed),
        callbacks=[CSVLog(context.log)],
    )
    return model, [_epochs_table(trainer.fit())]


@run_stage.register
def _(stage: Distill, model: nn.Module, context: Context) -> Outcome:
    trainer = DistillationTrainer(
        model,
        context.teacher,
        context.data.train,
        context.data.val,
        stage.config(context.seed),
        [loss.term() for loss in stage.loss],
        callbacks=[CSVLog(context.log)],
    )
    return model, [_epochs_table(trainer.fit())]


@run_stage.register
def _(stage: PruneChannels, model: nn.Module, context: Context) -> Outcome:
    plan = plan_pruning(stage, model, context.example, context.data.calibration)
    if stage.reconstruct:
        unfinished = context.log.with_suffix(".layers")
        pruned = apply_fitted(plan, model, context.data.calibration, resume=unfinished)
        unfinished.unlink(missing_ok=True)
    else:
        pruned = plan.apply(model)
    return pruned, [_groups_table(plan)]


@run_stage.register
def _(stage: PruneWeights, model: nn.Module, context: Context) -> Outcome:
    if stage.reconstruct:
        return _reconstructed(stage, model, context)
    if stage.epochs is None:
        plan = weight_pruner(stage, model).finalize()
        return model, [_weights_table(plan)]
    steps = stage.epochs * len(context.data.train)
    pruner = weight_pruner(stage, model, schedule=_gradual(steps))
    result = _trained(stage, stage.epochs, model, context, pruner)
    return model, [_weights_table(pruner.finalize()), _epochs_table(result)]


@run_stage.register
def _(stage: QuantizePtq, model: nn.Module, context: Context) -> Outcome:
    quantized = quantize(model, context.data.calibration, stage.config())
    return quantized, [_layers_table(quantized)]


@run_stage.register
def _(stage: QuantizeQat, model: nn.Module, context: Context) -> Outcome:
    calibration = context.data.calibration
    prepared = prepare_qat(model, context.example, stage.config(), calibration=calibration)
    result = _trained(stage, stage.epochs, prepared, context)
    quantized = convert(prepared)
    return quantized, [_layers_table(quantized), _epochs_table(result)]


def _trained(
    stage: TaughtKeys, epochs: int, model: nn.Module, context: Context, *callbacks: Callback
) -> TrainingResult:
    """Trains a model as a stage says, with a teacher where its loss has one."""
    config = stage.trainer_config(epochs, context.seed)
    callbacks = (*callbacks, CSVLog(context.log))
    data = context.data
    if not stage.terms():
        return Trainer(model, data.train, data.val, config, callbacks=callbacks).fit()
    terms = [loss.term() for loss in stage.terms()]
    teacher = context.teacher
    return DistillationTrainer(
        model, teacher, data.train, data.val, config, terms, callbacks=callbacks
    ).fit()


def plan_pruning(
    stage: PruneChannels, model: nn.Module, example: Tensor, calibration: Loader
) -> PruningPlan:
    """Returns the plan that a pruning stage asks for.

    Args:
        stage: What the recipe says.
        model: The model to prune; not changed.
        example: One image, (1, C, H, W).
        calibration: What an importance that needs data looks at.
    """
    options = _plan_options(stage)
    options["data"] = calibration
    return plan_channels(model, example, stage.target.target(), **options)


def rehearse_pruning(stage: PruneChannels, model: nn.Module, example: Tensor) -> PruningPlan:
    """Returns a plan that cuts as much as a pruning stage will, without data and without a trial.

    Args:
        stage: What the recipe says.
        model: The model to prune; not changed.
        example: One image, (1, C, H, W).
    """
    options = _plan_options(stage)
    if IMPORTANCES[stage.importance].needs_data:
        options["importance"] = "magnitude"
    options["prove"] = False
    return plan_channels(model, example, stage.target.target(), **options)


def _reconstructed(stage: PruneWeights, model: nn.Module, context: Context) -> Outcome:
    unfinished = context.log.with_suffix(".layers")
    sparse = sparsify(
        model,
        stage.wanted(),
        context.data.calibration,
        pattern=stage.pattern,
        exclude=stage.exclude,
        keep_ends=stage.keeps_ends(),
        resume=unfinished,
    )
    unfinished.unlink(missing_ok=True)
    plans = [plan for plan in history(sparse) if isinstance(plan, SparsityPlan)]
    return sparse, [_weights_table(plans[-1])]


def weight_pruner(
    stage: PruneWeights,
    model: nn.Module,
    schedule: Schedule = OneShot(),  # noqa: B008
) -> MagnitudePruner:
    """Returns the pruner that a stage asks for.

    Args:
        stage: What the recipe says.
        model: The model to prune; changed once the pruner takes part in a training or is finalized.
        schedule: When how much of the way is gone.
    """
    return MagnitudePruner(
        model,
        stage.wanted(),
        scope=stage.scope,
        pattern=stage.pattern,
        schedule=schedule,
        exclude=stage.exclude,
        keep_ends=stage.keeps_ends(),
    )


def _gradual(steps: int) -> Cubic:
    """Returns a schedule that leaves the last part of a training to what remains."""
    end = max(1, math.ceil(_GRADUAL * steps))
    return Cubic(end=end, every=max(1, end // 20))


def _plan_options(stage: PruneChannels) -> PlanOptions:
    return {
        "importance": stage.importance,
        "scope": stage.scope,
        "ratios": stage.ratios,
        "max_removed": stage.max_removed,
        "exclude": stage.exclude,
        "round_to": stage.round_to,
        "min_channels": stage.min_channels,
    }


def _groups_table(plan: PruningPlan) -> Table:
    rows: list[list[Cell]] = [
        [
            group.name,
            len(group.layers),
            group.channels,
            group.kept,
            _note(plan, group),
        ]
        for group in plan.groups
    ]
    columns = ["coupled group", "layers", "channels before", "after", "note"]
    return Table(title=f"channels, {plan.target}", columns=columns, rows=rows)


def _note(plan: PruningPlan, group: GroupCut) -> str | None:
    frozen = f"frozen: {group.frozen}" if group.frozen else None
    untested = "not tested" if group.name in plan.untested else None
    parts = (frozen, plan.inexact.get(group.name), plan.notes.get(group.name), untested)
    return "; ".join(part for part in parts if part) or None


def _weights_table(plan: SparsityPlan) -> Table:
    zeros = plan.zeros
    rows: list[list[Cell]] = []
    for name, shape in plan.shapes.items():
        size = math.prod(shape)
        rows.append([name, size, zeros[name], zeros[name] / size, plan.notes.get(name)])
    columns = ["weight", "weights", "zeros", "sparsity", "note"]
    return Table(title=f"zeros, {plan.target}", columns=columns, rows=rows)


def _epochs_table(result: TrainingResult) -> Table:
    columns = list(dict.fromkeys(key for row in result.history for key in row))
    rows: list[list[Cell]] = [[row.get(name) for name in columns] for row in result.history]
    return Table(title="epochs", columns=columns, rows=rows)


def _layers_table(model: Int8Model | PartlyInt8Model) -> Table:
    rows: list[list[Cell]] = [
        [
            row.name,
            row.kind,
            row.precision,
            row.macs,
            row.scale,
            row.zero_point,
            row.sqnr_db,
            row.reason,
        ]
        for row in model.table()
    ]
    columns = ["layer", "kind", "runs in", "MACs", "scale", "zero point", "SQNR, dB"]
    return Table(title="layers in int8", columns=[*columns, "why not int8"], rows=rows)

"""What each kind of stage does to the model."""

from dataclasses import dataclass
from functools import singledispatch
from pathlib import Path

from torch import Tensor, nn

from torchcompress.data import Data, Loader
from torchcompress.distillation import DistillationTrainer
from torchcompress.pruning import PruningPlan, plan_channels
from torchcompress.pruning.channels import PlanOptions
from torchcompress.pruning.fitted import apply_fitted
from torchcompress.pruning.group_cut import GroupCut
from torchcompress.pruning.importance import IMPORTANCES
from torchcompress.quantization import Int8Model, quantize
from torchcompress.recipe.section import Section
from torchcompress.recipe.stage_schema import Distill, PruneChannels, QuantizePtq, Train
from torchcompress.report import Cell, Table
from torchcompress.training import CSVLog, Trainer, TrainingResult


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
        pruned = apply_fitted(plan, model, context.data.calibration)
    else:
        pruned = plan.apply(model)
    return pruned, [_groups_table(plan)]


@run_stage.register
def _(stage: QuantizePtq, model: nn.Module, context: Context) -> Outcome:
    quantized = quantize(model, context.data.calibration, stage.config())
    return quantized, [_layers_table(quantized)]


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


def _epochs_table(result: TrainingResult) -> Table:
    columns = list(dict.fromkeys(key for row in result.history for key in row))
    rows: list[list[Cell]] = [[row.get(name) for name in columns] for row in result.history]
    return Table(title="epochs", columns=columns, rows=rows)


def _layers_table(model: Int8Model) -> Table:
    rows: list[list[Cell]] = [
        [row.name, row.kind, row.precision, row.scale, row.zero_point, row.sqnr_db, row.reason]
        for row in model.table()
    ]
    columns = ["layer", "kind", "runs in", "scale", "zero point", "SQNR, dB", "why not int8"]
    return Table(title="layers in int8", columns=columns, rows=rows)

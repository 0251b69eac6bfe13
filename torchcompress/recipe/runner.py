"""Runs a recipe from its data to its report."""

import copy
import shutil
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import nn

import torchcompress
from torchcompress.core.files import replacing, write_text
from torchcompress.data import Data
from torchcompress.deploy import save
from torchcompress.metrics import Measurement, compare, measure
from torchcompress.metrics.environment import environment
from torchcompress.recipe.folder import (
    MODEL,
    REPORT_HTML,
    REPORT_JSON,
    check_folder,
    default_folder,
    open_folder,
    stage_file,
)
from torchcompress.recipe.prepare import Prepared, prepare
from torchcompress.recipe.read import load_recipe
from torchcompress.recipe.schema import Recipe
from torchcompress.recipe.stage_schema import Train
from torchcompress.recipe.stages import Context, run_stage
from torchcompress.report import (
    Report,
    StageRecord,
    Table,
    judge,
    report_to_html,
    report_to_json,
)


@dataclass(frozen=True)
class RunResult:
    """What a run gave.

    Args:
        model: The model after the last stage.
        report: All numbers.
        folder: Where `model.tcz`, `report.json`, `report.html` and each stage's artifact are.
    """

    model: nn.Module
    report: Report
    folder: Path

    @property
    def passed(self) -> bool:
        """Whether the gate was met."""
        return self.report.gate is not None and self.report.gate.passed


def run_recipe(
    recipe: Recipe | str | Path,
    *,
    out: str | Path | None = None,
    model: nn.Module | None = None,
    data: Data | None = None,
) -> RunResult:
    """Runs the stages of a recipe one after the other on one model.

    After each stage the model is evaluated, saved and timed in turns with the model that entered
    (of one that entered untrained, with what its leading `train` stages made of it),
    and `report.json` is written anew. A missed gate is not an error: see `RunResult.passed`.

    Args:
        recipe: A recipe, a bundled recipe's name, or a file.
        out: The folder of the result, by default `runs/NAME`.
        model: A network in place of the one that `[model]` says; it is not changed.
        data: A data set in place of the one that `[data]` says.

    Raises:
        RecipeError: The recipe or the folder cannot work; nothing has been written then.
        CompressError: A stage failed; the stages before it are saved.
    """
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    folder = default_folder(recipe) if out is None else Path(out)
    check_folder(folder, recipe)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        run = _Run(recipe, prepare(recipe, model=model, data=data), folder)
        open_folder(folder, recipe)
        return run.finish()


class _Run:
    """One run under way: the model and its report. Making it measures the model that entered."""

    def __init__(self, recipe: Recipe, prepared: Prepared, folder: Path) -> None:
        self.recipe = recipe
        self.data = prepared.data
        self.example = prepared.example
        self.folder = folder
        self.settings = [latency.setting() for latency in recipe.report.latency]
        self.model = prepared.model
        self.trained = prepared.trained
        self.teacher, before = self._baseline()
        self.report = Report(
            name=recipe.name,
            description=recipe.description,
            arch=recipe.model.arch,
            dataset=recipe.data.dataset,
            seed=recipe.seed,
            environment={"torchcompress": torchcompress.__version__, **environment()},
            before=before,
            after=before,
            stages=[],
        )

    def finish(self) -> RunResult:
        for index in range(len(self.recipe.stage)):
            self._stage(index)
        self._judge()
        return RunResult(self.model, self.report, self.folder)

    def _stage(self, index: int) -> None:
        stage = self.recipe.stage[index]
        context = Context(
            data=self.data,
            example=self.example,
            teacher=self.teacher,
            seed=self.recipe.seed + index,
            log=self.folder / stage_file(index, stage.kind, ".csv"),
        )
        start = time.perf_counter()
        self.model, tables = run_stage(stage, self.model, context)
        seconds = time.perf_counter() - start
        if not self.trained and isinstance(stage, Train):
            self.teacher, before = self._baseline()
            self.report = replace(self.report, before=before)
        self.trained = self.trained or not isinstance(stage, Train)
        self._record(stage.kind, stage_file(index, stage.kind, ".tcz"), seconds, tables)

    def _record(self, kind: str, file: str, seconds: float, tables: list[Table]) -> None:
        found = compare(
            (self.teacher, self.report.before),
            self.model,
            self.example,
            loader=self.data.val,
            settings=self.settings,
        )
        path = self.folder / file
        numbers = found.after.to_json()
        del numbers["file_bytes"]
        save(self.model, path, input_shape=self.data.input_shape, measurements=numbers)
        after = replace(found.after, file_bytes=path.stat().st_size)
        record = StageRecord(
            **asdict(after),
            kind=kind,
            file=file,
            seconds=seconds,
            speedup=found.speedup,
            tables=tables,
        )
        self.report = replace(
            self.report, before=found.before, after=after, stages=[*self.report.stages, record]
        )
        write_text(self.folder / REPORT_JSON, report_to_json(self.report))

    def _baseline(self) -> tuple[nn.Module, Measurement]:
        """Returns a frozen copy of the model as it is now, and its numbers."""
        frozen = copy.deepcopy(self.model).eval().requires_grad_(False)
        return frozen, measure(frozen, self.example, loader=self.data.val, settings=())

    def _judge(self) -> None:
        gate = self.recipe.gate
        headline = self.report.speedup[str(self.settings[0])]
        judged = judge(self.report.before, self.report.after, headline, **gate.model_dump())
        self.report = replace(self.report, gate=judged)
        with replacing(self.folder / MODEL) as temporary:
            shutil.copyfile(self.folder / self.report.stages[-1].file, temporary)
        write_text(self.folder / REPORT_JSON, report_to_json(self.report))
        write_text(self.folder / REPORT_HTML, report_to_html(self.report))

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import torchcompress
from torchcompress.core.errors import CompressError, RecipeError
from torchcompress.core.history import history
from torchcompress.data import open_data
from torchcompress.deploy import load
from torchcompress.metrics import evaluate
from torchcompress.quantization import Int8Model
from torchcompress.recipe.network import build_network
from torchcompress.recipe.read import load_recipe
from torchcompress.recipe.runner import RunResult, run_recipe
from torchcompress.report import read_report, report_to_text

KINDS = ["train", "prune.channels", "distill", "quantize.ptq"]


@pytest.fixture(scope="module")
def result(tiny_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return run_recipe(tiny_recipe, out=tmp_path_factory.mktemp("run") / "out")


def test_four_stages_on_one_network(result: RunResult, tiny_recipe: Path) -> None:
    report = result.report
    assert [stage.kind for stage in report.stages] == KINDS
    trained, pruned, distilled, quantized = report.stages
    assert trained.macs == report.before.macs > pruned.macs == distilled.macs == quantized.macs
    assert pruned.params < trained.params
    assert quantized.file_bytes < trained.file_bytes
    assert all(stage.speedup.keys() == stage.latency_ms.keys() for stage in report.stages)
    assert list(quantized.latency_ms) == ["threads=1,batch=2,image_size=20"]
    assert isinstance(result.model, Int8Model)
    assert result.passed


def test_the_folder_holds_the_recipe_each_stage_and_the_result(result: RunResult) -> None:
    assert {path.name for path in result.folder.iterdir()} == {
        "recipe.json",
        "report.json",
        "report.html",
        "model.tcz",
        "01-train.tcz",
        "01-train.csv",
        "02-prune.channels.tcz",
        "03-distill.tcz",
        "03-distill.csv",
        "04-quantize.ptq.tcz",
    }
    assert read_report(result.folder / "report.json") == result.report
    assert (result.folder / "model.tcz").read_bytes() == (
        result.folder / "04-quantize.ptq.tcz"
    ).read_bytes()
    for stage in result.report.stages:
        assert (result.folder / stage.file).stat().st_size == stage.file_bytes
    with (result.folder / "01-train.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 1


def test_the_accuracies_are_those_of_the_saved_models(result: RunResult, tiny_images: Path) -> None:
    data = open_data("fashion-mnist", tiny_images, image_size=16, calibration=64)
    for stage in result.report.stages:
        model = load(result.folder / stage.file, trust=["tiny_network:tiny"])
        assert evaluate(model, data.val).fraction == stage.accuracy
    assert len(history(load(result.folder / "model.tcz"))) == 2


def test_zeros_stay_through_training_and_int8_and_are_said(
    tiny_recipe: Path, tmp_path: Path
) -> None:
    stages = [
        "{kind='train', epochs=1}",
        "{kind='prune.weights', target={sparsity=0.7}, keep_ends=false, epochs=2, lr=0.01,"
        " loss=[{name='dist'}, {name='ce'}]}",
        "{kind='distill', epochs=1, lr=0.01}",
        "{kind='quantize.ptq'}",
    ]
    recipe = load_recipe(tiny_recipe, [f"stage=[{', '.join(stages)}]"])
    report = run_recipe(recipe, out=tmp_path / "out").report
    dense, pruned, distilled, quantized = report.stages
    assert dense.zeros < 0.1 * dense.params
    assert 0.65 * pruned.params < pruned.zeros == distilled.zeros <= quantized.zeros
    plan = history(load(tmp_path / "out" / "model.tcz"))[0]
    assert isinstance(plan, torchcompress.SparsityPlan)
    sparse = load(tmp_path / "out" / distilled.file, trust=["tiny_network:tiny"])
    for name, mask in plan.kept.items():
        assert torch.equal(sparse.get_parameter(name) != 0, mask)
    weights, epochs = pruned.tables
    assert sum(int(row[2] or 0) for row in weights.rows) == sum(plan.zeros.values())
    assert [row[-3] for row in epochs.rows] == [1.0, 1.0]
    assert epochs.columns[-3] == "target_reached"
    text = report_to_text(report)
    assert "of the parameters are zero, which brings no speed on a CPU" in text
    assert "what got smaller with them is the file" in text
    assert text.count("zeros  ") >= 2


def test_quantization_aware_training_ends_in_int8_with_the_zeros(
    tiny_recipe: Path, tmp_path: Path
) -> None:
    stages = [
        "{kind='train', epochs=1}",
        "{kind='prune.weights', target={sparsity=0.5}, keep_ends=false}",
        "{kind='quantize.qat', epochs=1, exclude=['7'], loss=[{name='dist'}, {name='ce'}]}",
    ]
    recipe = load_recipe(tiny_recipe, [f"stage=[{', '.join(stages)}]"])
    result = run_recipe(recipe, out=tmp_path / "out")
    trained, pruned, quantized = result.report.stages
    assert quantized.zeros >= pruned.zeros
    assert quantized.accuracy is not None
    assert trained.accuracy is not None
    assert quantized.accuracy > trained.accuracy - 0.1
    layers, epochs = quantized.tables
    assert [row[2] for row in layers.rows][-1] == "float"
    assert "int8" in {row[2] for row in layers.rows}
    assert len(epochs.rows) == 1
    assert [plan.kind for plan in history(result.model)] == ["sparsity", "quantization"]
    loaded = load(result.folder / "model.tcz")
    x = torch.rand(2, 3, 16, 16)
    assert torch.equal(loaded(x), result.model(x))


def test_weights_go_at_once_where_nothing_trains(tiny_recipe: Path, tmp_path: Path) -> None:
    stages = "{kind='train', epochs=1}, {kind='prune.weights', pattern='2:4', exclude=['0']}"
    overrides = [f"stage=[{stages}]", "model.args={width=8}"]
    result = run_recipe(load_recipe(tiny_recipe, overrides), out=tmp_path / "out")
    (table,) = result.report.stages[1].tables
    shares = {row[0]: row[3] for row in table.rows}
    assert shares == {"0.weight": 0.0, "3.weight": 0.5, "7.weight": 0.0}
    assert not (tmp_path / "out" / "02-prune.weights.csv").exists()


def test_weights_are_reconstructed_and_trained_on(tiny_recipe: Path, tmp_path: Path) -> None:
    stages = "{kind='train', epochs=1}, {kind='prune.weights', target={sparsity=0.6}, " + (
        "reconstruct=true}, {kind='train', epochs=1, lr=0.01}"
    )
    result = run_recipe(load_recipe(tiny_recipe, [f"stage=[{stages}]"]), out=tmp_path / "out")
    (plan,) = history(result.model)
    assert isinstance(plan, torchcompress.SparsityPlan)
    for name, mask in plan.kept.items():
        assert torch.equal(result.model.get_parameter(name) != 0, mask)
    _, sparse, trained = result.report.stages
    assert 0.58 * sparse.params < sparse.zeros == trained.zeros
    assert not list((tmp_path / "out").glob("*.layers"))


def test_a_network_that_enters_untrained_is_compared_with_what_training_made_of_it(
    result: RunResult,
) -> None:
    assert result.report.before.accuracy == result.report.stages[0].accuracy
    assert result.report.before.accuracy != result.report.stages[1].accuracy


def test_one_seed_gives_one_result(result: RunResult, tiny_recipe: Path, tmp_path: Path) -> None:
    torch.rand(7)
    again = run_recipe(load_recipe(result.folder / "recipe.json"), out=tmp_path / "again")
    accuracies = [[s.accuracy for s in r.report.stages] for r in (result, again)]
    assert accuracies[0] == accuracies[1]
    assert result.report.before.accuracy == again.report.before.accuracy
    x = torch.randn(4, 3, 16, 16)
    assert torch.equal(result.model(x), again.model(x))


@pytest.mark.parametrize("importance", ["fisher", "variance"])
def test_an_importance_looks_at_the_calibration_images(
    tiny_recipe: Path, tmp_path: Path, importance: str
) -> None:
    stages = f"stage=[{{kind='train',epochs=1}},{{kind='prune.channels',importance='{importance}',"
    rest = "target={params=0.5},scope='isomorphic',max_removed=0.75,ratios={'0'=0.75},round_to=4}]"
    result = run_recipe(load_recipe(tiny_recipe, [stages + rest]), out=tmp_path / "out")
    assert result.report.stages[1].params <= 0.5 * result.report.stages[0].params
    assert result.model.get_parameter("0.weight").shape[0] == 12


def test_a_missed_gate_keeps_the_result(tiny_recipe: Path, tmp_path: Path) -> None:
    recipe = load_recipe(
        tiny_recipe, ["stage=[{kind='train', epochs=1}]", "gate.max_file_mb=0.0001"]
    )
    missed = run_recipe(recipe, out=tmp_path / "out")
    assert not missed.passed
    assert json.loads((tmp_path / "out" / "report.json").read_text())["gate"]["passed"] is False
    assert (tmp_path / "out" / "model.tcz").is_file()


def test_a_refused_recipe_writes_nothing(tiny_recipe: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    for override in ("data.root=/no/such", "stage.1.exclude=['conv9']", "model.arch=tiny:other"):
        with pytest.raises(RecipeError):
            run_recipe(load_recipe(tiny_recipe, [override]), out=tmp_path / "out")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_network_with_too_few_answers_writes_nothing(tiny_recipe: Path, tmp_path: Path) -> None:
    own = build_network("tiny_network:tiny", {}, None, num_classes=5)
    with pytest.raises(CompressError, match="the data has 10 classes"):
        run_recipe(tiny_recipe, out=tmp_path / "out", model=own)
    assert list(tmp_path.iterdir()) == []


def test_a_stage_that_fails_leaves_the_finished_ones(
    tiny_recipe: Path, tiny_images: Path, tmp_path: Path
) -> None:
    recipe = load_recipe(tiny_recipe, ["stage=[{kind='train',epochs=1},{kind='quantize.ptq'}]"])
    good = open_data("fashion-mnist", tiny_images, image_size=16, calibration=64)
    batch, labels = next(iter(good.calibration))

    class Broken(list):  # pyright: ignore[reportMissingTypeArgument]
        def set_epoch(self, epoch: int) -> None: ...

    first = batch.clone()
    broken = replace(good, calibration=Broken([(first, labels), (batch * torch.nan, labels)]))
    with pytest.raises(CompressError, match="batch 1"):
        run_recipe(recipe, out=tmp_path / "out", data=broken)
    report = read_report(tmp_path / "out" / "report.json")
    assert [stage.kind for stage in report.stages] == ["train"]
    assert report.gate is None
    assert not (tmp_path / "out" / "model.tcz").exists()


def test_an_own_model_is_not_changed(tiny_recipe: Path, tmp_path: Path) -> None:
    recipe = load_recipe(tiny_recipe, ["stage=[{kind='train', epochs=1}]"])
    own = build_network("tiny_network:tiny", {"width": 4}, None, num_classes=10).train()
    before = {name: value.clone() for name, value in own.state_dict().items()}
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    run_recipe(recipe, out=tmp_path / "out", model=own)
    assert own.training
    assert all(torch.equal(value, before[name]) for name, value in own.state_dict().items())
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_the_version_is_in_the_report(result: RunResult) -> None:
    assert result.report.environment["torchcompress"] == torchcompress.__version__

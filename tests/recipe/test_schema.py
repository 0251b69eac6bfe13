import copy
import json
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from torchcompress.core.errors import RecipeError
from torchcompress.quantization.qat import QATConfig
from torchcompress.recipe.schema import (
    DataSection,
    GateSection,
    LatencySection,
    ModelSection,
    Recipe,
    ReportSection,
)
from torchcompress.recipe.stage_schema import (
    KINDS,
    Distill,
    PruneChannels,
    PruneWeights,
    QuantizePtq,
    QuantizeQat,
    SparsitySection,
    TargetSection,
    Train,
)
from torchcompress.recipe.training_schema import LossSection
from torchcompress.training import TrainerConfig

TRAINING = """
epochs = 2
optimizer = "sgd"
lr = 1e-4
momentum = 0.9
weight_decay = 5e-4
warmup_epochs = 1
clip_norm = 1
ema_decay = 0.9
amp = "bf16"
channels_last = true
mixup_alpha = 0.2
"""
FULL = f"""
schema = 1
name = "full"
description = "Every key there is."
seed = 3
[model]
arch = "resnet18"
weights = "IMAGENET1K_V1"
args = {{ zero_init_residual = true }}
[data]
dataset = "fashion-mnist"
root = "images"
image_size = 32
batch_size = 64
calibration = 128
augment = ["flip", "crop"]
workers = 0
[gate]
max_accuracy_drop = 1
min_speedup = 3.5
max_file_mb = 5.6
[report]
latency = [{{ threads = 1, batch = 8, image_size = 224 }}]
[[stage]]
kind = "train"
label_smoothing = 0.1
{TRAINING}
[[stage]]
kind = "prune.channels"
target = {{ macs = 0.5 }}
importance = "magnitude"
scope = "global"
ratios = {{ "layer1.*" = 0.75 }}
max_removed = 0.9
exclude = ["fc"]
round_to = 8
min_channels = 2
reconstruct = true
[[stage]]
kind = "prune.channels"
target = {{ channels = 0.5 }}
[[stage]]
kind = "distill"
teacher = "input"
loss = [{{ name = "kd", weight = 2, options = {{ temperature = 2 }} }}, {{ name = "ce" }}]
{TRAINING}
[[stage]]
kind = "prune.weights"
target = {{ sparsity = 0.9 }}
scope = "lamp"
pattern = "block:4x4"
exclude = ["fc"]
keep_ends = false
teacher = "input"
loss = [{{ name = "dist" }}]
{TRAINING}
[[stage]]
kind = "quantize.ptq"
ranges = "mse"
exclude = ["fc"]
"""
QAT = f"""
[[stage]]
kind = "quantize.qat"
ranges = "minmax"
learned = true
exclude = ["fc"]
teacher = "input"
loss = [{{ name = "dist" }}]
{TRAINING}
"""
PARAMS = """
[[stage]]
kind = "prune.channels"
target = { params = 0.5 }
"""


def full() -> dict[str, Any]:
    return tomllib.loads(FULL)


def keys(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yields the path of every key in nested tables; names that are the user's are free."""
    if path[-1:] in (("args",), ("ratios",)):
        return
    if isinstance(value, dict):
        for key, item in value.items():
            yield (*path, key)
            yield from keys(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from keys(item, (*path, index))


def written(path: tuple[str | int, ...]) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return "".join(parts).removeprefix(".")


def changed(path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    """Returns the full recipe with another value at a path."""
    data = full()
    place: Any = data
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return data


def with_qat() -> dict[str, Any]:
    """Returns the full recipe, ending in a stage of quantization-aware training."""
    data = full()
    data["stage"][-1:] = tomllib.loads(QAT)["stage"]
    return data


def test_the_full_recipe_has_every_key() -> None:
    parts = (full(), tomllib.loads(PARAMS), tomllib.loads(QAT))
    used = {str(path[-1]) for part in parts for path in keys(part)}
    sections: list[type[BaseModel]] = [
        Recipe,
        ModelSection,
        DataSection,
        GateSection,
        ReportSection,
        LatencySection,
        Train,
        PruneChannels,
        TargetSection,
        PruneWeights,
        SparsitySection,
        Distill,
        LossSection,
        QuantizePtq,
        QuantizeQat,
    ]
    for section in sections:
        known = {field.alias or name for name, field in section.model_fields.items()}
        assert known <= used, section.__name__
    recipe = Recipe.model_validate(full())
    last = Recipe.model_validate(with_qat()).stage[-1]
    assert {stage.kind for stage in recipe.stage} | {last.kind} == set(KINDS)


@pytest.mark.parametrize("path", list(keys(full())), ids=written)
def test_every_key_misspelt_is_named_with_a_suggestion(path: tuple[str | int, ...]) -> None:
    data = full()
    place: Any = data
    for step in path[:-1]:
        place = place[step]
    key = str(path[-1])
    place[f"{key}z"] = place.pop(key)
    with pytest.raises(RecipeError) as caught:
        Recipe.model_validate(data)
    message = str(caught.value)
    assert f"{written(path)}z: unknown key" in message
    assert repr(key) in message


@pytest.mark.parametrize(
    ("path", "value", "part"),
    [
        (("schema",), 2, "schema: 2 is not known here"),
        (("name",), "a b", "name: 'a b' cannot be used"),
        (("name",), "../a", "name: '../a' cannot be used"),
        (("description",), "two\nlines", "description: "),
        (("seed",), -1, "seed: -1 cannot be used"),
        (("seed",), 1.5, "seed: 1.5 is a number where a whole number is needed"),
        (("model",), "resnet18", "model: 'resnet18' is a text where a table is needed"),
        (("model", "arch"), "resnet81", "did you mean 'resnet18'"),
        (("model", "weights"), "IMAGENET1K_V3", "model.weights: 'IMAGENET1K_V3' is not an entry"),
        (("model", "weights"), "bundled:resnet81", "model.weights: 'resnet81' is not bundled"),
        (("model", "weights"), "no.safetensors", "model.weights: there is no file"),
        (("data", "dataset"), "fashion", "data.dataset: 'fashion' is not a data set"),
        (("data", "augment"), ["flop"], "did you mean 'flip'"),
        (("data", "batch_size"), True, "data.batch_size: True is a boolean"),
        (("gate", "min_speedup"), "3", "write it without quotes"),
        (("gate", "max_accuracy_drop"), -1, "gate.max_accuracy_drop: -1 cannot be used"),
        (("report", "latency"), [], "report.latency: "),
        (("report", "latency", 0, "threads"), 0, "report.latency[0].threads: 0"),
        (("stage",), [], "stage: "),
        (("stage", 0, "kind"), "trian", "stage[0].kind: 'trian' is not a kind of stage"),
        (("stage", 0, "lr"), "1e-4", "stage[0].lr: '1e-4' is a text where a number is needed"),
        (("stage", 0, "lr"), 0, "stage[0].lr: 0 is not above 0"),
        (("stage", 0, "lr"), float("nan"), "stage[0].lr: nan"),
        (("stage", 0, "epochs"), 0, "stage[0].epochs: 0"),
        (("stage", 0, "optimizer"), "adam", "did you mean 'adamw'"),
        (("stage", 0, "warmup_epochs"), 2, "stage[0].warmup_epochs: 2 is not below 2"),
        (("stage", 1, "target"), {}, "stage[1].target: a target takes exactly one"),
        (("stage", 1, "target"), {"macs": 0.5, "channels": 0.5}, "stage[1].target: a target"),
        (("stage", 1, "target"), {"macs": 0}, "stage[1].target.macs: 0 leaves nothing"),
        (("stage", 1, "target"), {"macs": -0.5}, "stage[1].target.macs: -0.5 leaves nothing"),
        (("stage", 1, "target"), {"channels": 40}, "did you mean 0.4"),
        (("stage", 1, "importance"), "magnitud", "did you mean 'magnitude'"),
        (("stage", 1, "scope"), "local", "did you mean 'global'"),
        (("stage", 1, "max_removed"), 0, "stage[1].max_removed: 0 is outside (0, 1]"),
        (("stage", 1, "ratios"), {"conv1": 40}, "stage[1].ratios.conv1: 40 is outside (0, 1]"),
        (("stage", 3, "teacher"), "output", "stage[3].teacher: 'output' is not known here"),
        (("stage", 3, "loss"), [{"name": "dits"}], "stage[3].loss[0].name: 'dits' is not a loss"),
        (("stage", 3, "loss"), [{"name": "ce"}] * 2, "stage[3].loss: this loss is given twice"),
        (("stage", 3, "loss"), [], "stage[3].loss: "),
        (("stage", 3, "loss", 0, "weight"), -1, "stage[3].loss[0].weight: -1"),
        (
            ("stage", 3, "loss", 0, "options"),
            {"standardize": 2},
            "options.standardize: 2.0 is given",
        ),
        (("stage", 3, "loss", 0, "options"), {"temperature": True}, "where a number is needed"),
        (("stage", 4, "target"), {"sparsity": 90}, "stage[4].target.sparsity: 90 is outside"),
        (("stage", 4, "target"), {"macs": 0.5}, "stage[4].target.macs: unknown key"),
        (("stage", 4, "pattern"), "2:2", "stage[4].pattern: 2:2 keeps 2 of 2"),
        (("stage", 4, "pattern"), "2:4", "stage[4].target: sparsity=0.9 does not go with"),
        (("stage", 4, "scope"), "isomorphic", "stage[4].scope: 'isomorphic' is not known here"),
        (("stage", 4, "epochs"), 0, "stage[4].epochs: 0"),
        (("stage", 4, "lr"), -1, "stage[4].lr: -1 is not above 0"),
        (("stage", 4, "loss"), [{"name": "ce"}] * 2, "stage[4].loss: this loss is given twice"),
        (("stage", 5, "ranges"), "max", "stage[5].ranges: 'max' is not known here"),
    ],
)
def test_a_wrong_value_is_named_with_its_path(
    path: tuple[str | int, ...], value: Any, part: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.model_validate(changed(path, value))
    assert part in str(caught.value)


@pytest.mark.parametrize("path", [("model",), ("name",), ("schema",), ("stage", 0, "epochs")])
def test_a_missing_key_is_named(path: tuple[str | int, ...]) -> None:
    data = full()
    place: Any = data
    for step in path[:-1]:
        place = place[step]
    del place[path[-1]]
    with pytest.raises(RecipeError, match="is missing") as caught:
        Recipe.model_validate(data)
    assert caught.value.where == written(path)


def test_a_stage_without_a_kind_is_named() -> None:
    with pytest.raises(RecipeError, match=r"stage\[0\].kind: is missing"):
        Recipe.model_validate(changed(("stage", 0), {"epochs": 3}))


def test_all_faults_are_told_at_once() -> None:
    data = changed(("data", "dataset"), "fashion")
    data["gate"]["max_file_mb"] = 0
    with pytest.raises(RecipeError) as caught:
        Recipe.model_validate(data)
    assert str(caught.value).startswith("2 faults")
    assert "data.dataset" in str(caught.value)
    assert "gate.max_file_mb" in str(caught.value)


@pytest.mark.parametrize("key", [k for k in tomllib.loads(QAT)["stage"][0] if k != "kind"])
def test_every_misspelt_key_of_quantization_aware_training_is_named(key: str) -> None:
    data = with_qat()
    stage = data["stage"][-1]
    stage[f"{key}x"] = stage.pop(key)
    with pytest.raises(RecipeError, match=rf"stage\[5\]\.{key}x: unknown key"):
        Recipe.model_validate(data)


def test_quantization_aware_training_ends_a_recipe_and_asks_for_epochs() -> None:
    data = with_qat()
    found = data["stage"][-1]
    stage = Recipe.model_validate(data).stage[-1]
    assert isinstance(stage, QuantizeQat)
    assert stage.config() == QATConfig(ranges="minmax", learned=True, exclude=("fc",))
    with pytest.raises(RecipeError, match=r"'quantize.qat' cannot change an int8|last stage"):
        Recipe.model_validate({**data, "stage": [*data["stage"], {"kind": "quantize.ptq"}]})
    data["stage"][-1] = {key: value for key, value in found.items() if key != "epochs"}
    with pytest.raises(RecipeError, match=r"stage\[5\]\.epochs"):
        Recipe.model_validate(data)


def test_nothing_can_follow_int8() -> None:
    data = full()
    data["stage"].append({"kind": "quantize.ptq"})
    with pytest.raises(RecipeError, match=r"stage\[6\]: 'quantize.ptq' cannot change an int8"):
        Recipe.model_validate(data)


def test_two_stages_of_one_kind_are_two_stages() -> None:
    kinds = [stage.kind for stage in Recipe.model_validate(full()).stage]
    assert kinds == [
        "train",
        "prune.channels",
        "prune.channels",
        "distill",
        "prune.weights",
        "quantize.ptq",
    ]


def test_file_python_and_json_forms_are_equal() -> None:
    from_file = Recipe.model_validate(full())
    assert Recipe(**full()) == from_file
    assert Recipe.model_validate(json.loads(json.dumps(from_file.to_json()))) == from_file
    with_objects = {**full(), "model": from_file.model, "stage": from_file.stage}
    assert Recipe(**with_objects) == from_file


def test_the_python_form_is_as_strict_as_the_file() -> None:
    with pytest.raises(RecipeError, match=r"stage\[0\]\.epochz"):
        Recipe(**changed(("stage", 0), {"kind": "train", "epochz": 3}))


def test_a_recipe_is_not_changed_by_what_it_was_made_of() -> None:
    data = full()
    recipe = Recipe.model_validate(data)
    before = copy.deepcopy(recipe)
    data["stage"].clear()
    data["data"]["augment"].append("crop")
    assert recipe == before


@pytest.mark.parametrize(
    ("key", "value"), [("lr", 0.1), ("teacher", "input"), ("loss", [{"name": "ce"}])]
)
def test_keys_of_a_training_that_does_not_happen_are_refused(key: str, value: Any) -> None:
    stage = {"kind": "prune.weights", "target": {"sparsity": 0.9}}
    recipe = Recipe.model_validate(changed(("stage",), [stage]))
    assert Recipe.model_validate(json.loads(json.dumps(recipe.to_json()))) == recipe
    with pytest.raises(RecipeError, match="has no effect without epochs") as caught:
        Recipe.model_validate(changed(("stage",), [{**stage, key: value}]))
    assert caught.value.where == f"stage[0].{key}"


@pytest.mark.parametrize(("key", "value"), [("scope", "erk"), ("epochs", 3)])
def test_a_reconstruction_neither_trains_nor_takes_a_scope(key: str, value: Any) -> None:
    stage = {"kind": "prune.weights", "target": {"sparsity": 0.9}, "reconstruct": True}
    found = Recipe.model_validate(changed(("stage",), [stage])).stage[0]
    assert isinstance(found, PruneWeights)
    assert not found.keeps_ends()
    with pytest.raises(RecipeError) as caught:
        Recipe.model_validate(changed(("stage",), [{**stage, key: value}]))
    wrong = "reconstruct" if key == "epochs" else key
    assert caught.value.where == f"stage[0].{wrong}"


def test_an_n_of_m_pattern_needs_no_target() -> None:
    stage = {"kind": "prune.weights", "pattern": "2:4"}
    Recipe.model_validate(changed(("stage",), [stage]))
    with pytest.raises(RecipeError, match=r"stage\[0\]\.target: is missing"):
        Recipe.model_validate(changed(("stage",), [{"kind": "prune.weights"}]))


def test_keys_that_are_left_out_have_the_defaults_of_the_trainer() -> None:
    assert Train(kind="train", epochs=10).config(seed=0) == TrainerConfig(epochs=10)
    assert Distill(kind="distill", epochs=10).config(seed=0) == TrainerConfig(epochs=10)

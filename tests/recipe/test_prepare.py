from pathlib import Path

import pytest
from torch import nn

from torchcompress.core.errors import RecipeError
from torchcompress.data import open_data
from torchcompress.recipe.network import build_network
from torchcompress.recipe.prepare import prepare
from torchcompress.recipe.read import load_recipe


def test_a_sound_recipe_gives_network_and_data(tiny_recipe: Path) -> None:
    prepared = prepare(load_recipe(tiny_recipe))
    assert prepared.data.num_classes == 10
    assert prepared.example.shape == (1, 3, 16, 16)
    assert prepared.model(prepared.example).shape == (1, 10)


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (["stage.1.exclude=['*.conv9']"], "stage[1].exclude: '*.conv9' matches nothing"),
        (["stage.3.exclude=['conv9']"], "stage[3].exclude: 'conv9' matches nothing"),
        (
            ["stage.1.ratios={'*.conv9' = 0.5}"],
            "stage[1].ratios['*.conv9']: '*.conv9' matches nothing",
        ),
        (["stage.1.importance=lamp", "stage.1.max_removed=0.1"], "stage[1].target.channels"),
        (["stage.1.target={macs = 1e9}"], "stage[1].target.macs: 1,000,000,000 macs are more"),
        (["stage.1.target={macs = 1e-6}"], "stage[1].target.macs"),
        (["stage.1.exclude=['*']"], "stage[1]"),
        (
            ["stage.1={kind='prune.weights', target={sparsity=0.9}, exclude=['conv9']}"],
            "stage[1].exclude: 'conv9' matches no convolution",
        ),
        (
            ["stage.1={kind='prune.weights', target={sparsity=0.9}}"],
            "stage[1].target.sparsity: sparsity=0.9 asks for",
        ),
        (
            ["stage.1={kind='prune.weights', pattern='2:3', keep_ends=false}"],
            "stage[1] (3): 2:3 does not divide",
        ),
        (["data.root=/no/such/folder"], "/no/such/folder"),
        (["data.calibration=257"], "data.calibration: 257 images asked, 256 in"),
        (["model.args={widht = 3}"], "widht"),
        (["stage.0={kind='quantize.ptq'}", "stage.1={kind='train',epochs=1}"], "stage[1]"),
        (["stage=[{kind='quantize.ptq'}]"], "stage[0]: 'quantize.ptq' needs a trained network"),
        (["model.args={num_classes = 20}"], "model.args: the network answers (1, 20)"),
        (["model.arch=tiny_network:sorting"], "stage[3]"),
        (["model.arch=tiny_network:broken"], "cannot be built"),
        (["stage.2.loss=[{name='kd',options={temperature=0}}]"], "stage[2].loss[0].options"),
        (["report.latency=[{threads=100000}]"], "report.latency[0].threads"),
        (["data.image_size=100000"], "data.image_size"),
        (["seed=9223372036854775808"], "seed"),
    ],
)
def test_what_cannot_work_is_found_before_training(
    tiny_recipe: Path, overrides: list[str], part: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        prepare(load_recipe(tiny_recipe, overrides))
    assert part in str(caught.value)


def test_a_glob_that_matches_nothing_is_an_error_every_time(tiny_recipe: Path) -> None:
    recipe = load_recipe(tiny_recipe, ["stage.1.exclude=['conv9']"])
    for _ in range(2):
        with pytest.raises(RecipeError, match="matches nothing"):
            prepare(recipe)


def test_later_cuts_are_rehearsed_on_what_earlier_ones_leave(tiny_recipe: Path) -> None:
    again = "{kind='prune.channels', target={macs=60000}, round_to=1}"
    train = "{kind='train', epochs=1}"
    prepare(load_recipe(tiny_recipe, [f"stage=[{train}, {again}]"]))
    with pytest.raises(RecipeError, match=r"stage\[2\]\.target\.macs: 60,000 macs are more than"):
        prepare(load_recipe(tiny_recipe, [f"stage=[{train}, {again}, {again}]"]))


def test_an_own_network_and_own_data_take_the_place_of_the_files(tiny_recipe: Path) -> None:
    recipe = load_recipe(tiny_recipe, ["stage=[{kind='quantize.ptq'}]", "data.root=/no/such"])
    own = build_network("tiny_network:tiny", {"width": 4}, None, num_classes=10)
    data = open_data("fashion-mnist-mini", image_size=16)
    prepared = prepare(recipe, model=own, data=data)
    assert prepared.data is data
    assert prepared.model is not own
    assert str(prepared.model) == str(own)


def test_a_network_must_work_at_every_size_that_is_timed(tiny_recipe: Path) -> None:
    recipe = load_recipe(tiny_recipe, ["stage=[{kind='train', epochs=1}]"])
    own = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 10))
    with pytest.raises(RecipeError, match=r"report\.latency\[0\]"):
        prepare(recipe, model=own)


@pytest.mark.parametrize("importance", ["taylor", "variance"])
def test_an_importance_that_needs_data_is_rehearsed_without(
    tiny_recipe: Path, importance: str
) -> None:
    prepare(load_recipe(tiny_recipe, [f"stage.1.importance={importance}"]))

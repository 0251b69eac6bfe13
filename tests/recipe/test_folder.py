import json
from pathlib import Path

import pytest

from torchcompress.core.errors import RecipeError
from torchcompress.recipe.folder import check_folder, default_folder, open_folder, stage_file
from torchcompress.recipe.read import load_recipe
from torchcompress.recipe.schema import Recipe


@pytest.fixture
def recipe(tiny_recipe: Path) -> Recipe:
    return load_recipe(tiny_recipe)


def test_a_new_folder_is_checked_without_making_it(recipe: Recipe, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    check_folder(tmp_path / "a" / "b", recipe)
    assert sorted(tmp_path.rglob("*")) == before


def test_the_resolved_recipe_is_written(recipe: Recipe, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    open_folder(folder, recipe)
    assert Recipe.model_validate(json.loads((folder / "recipe.json").read_text())) == recipe
    assert load_recipe(folder / "recipe.json") == recipe


def test_the_same_recipe_may_run_again_and_its_old_result_goes(
    recipe: Recipe, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    open_folder(folder, recipe)
    (folder / "model.tcz").touch()
    (folder / "report.json").touch()
    check_folder(folder, recipe)
    open_folder(folder, recipe)
    assert [p.name for p in folder.iterdir()] == ["recipe.json"]


def test_another_recipes_result_is_kept(recipe: Recipe, tiny_recipe: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    open_folder(folder, recipe)
    other = load_recipe(tiny_recipe, ["stage.0.epochs=3", "name=other"])
    with pytest.raises(RecipeError) as caught:
        check_folder(folder, other)
    message = str(caught.value)
    assert "another recipe (tiny), which differs in name, stage[0].epochs" in message
    assert "--out" in message


def test_a_folder_of_something_else_is_kept(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    check_folder(tmp_path / "out", recipe)
    (tmp_path / "out" / "thesis.txt").touch()
    with pytest.raises(RecipeError, match="is not empty and holds no result"):
        check_folder(tmp_path / "out", recipe)


def test_a_place_that_cannot_be_written_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/torchcompress")):
        with pytest.raises(RecipeError, match="cannot be written"):
            check_folder(place, recipe)


def test_names_of_files(recipe: Recipe) -> None:
    assert default_folder(recipe) == Path("runs/tiny")
    assert stage_file(0, "prune.channels", ".tcz") == "01-prune.channels.tcz"

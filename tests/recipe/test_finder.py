from pathlib import Path

import pytest

import torchcompress
from torchcompress.core.errors import RecipeError
from torchcompress.recipe.finder import bundled_recipes, find_recipe, recipe_folder
from torchcompress.recipe.read import load_recipe


def test_a_wheel_holds_the_recipes_inside_the_package(tmp_path: Path) -> None:
    package = tmp_path / "site-packages" / "torchcompress"
    (package / "recipes").mkdir(parents=True)
    (package / "recipes" / "one.toml").touch()
    assert recipe_folder(package) == package / "recipes"
    assert bundled_recipes(recipe_folder(package)) == {"one": package / "recipes" / "one.toml"}


def test_a_checkout_holds_them_beside_the_package(tmp_path: Path) -> None:
    (tmp_path / "torchcompress").mkdir()
    assert recipe_folder(tmp_path / "torchcompress") == tmp_path / "recipes"
    assert (recipe_folder() / "quickstart.toml").is_file()
    assert recipe_folder().parent in (
        Path(torchcompress.__file__).parent,
        Path(torchcompress.__file__).parents[1],
    )


@pytest.mark.parametrize("name", list(bundled_recipes()))
def test_every_bundled_recipe_is_sound_and_says_what_it_is_for(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.description
    assert find_recipe(name).read_text().startswith("# ")


def test_a_file_is_found_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").touch()
    assert find_recipe(tmp_path / "mine.toml") == tmp_path / "mine.toml"


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("quikstart", "did you mean 'quickstart'"),
        ("nowhere.toml", "there is no such file"),
        ("quickstart.yaml", "ends in .toml"),
        ("recipes", "is not a bundled recipe"),
    ],
)
def test_an_unknown_recipe_is_refused(name: str, part: str) -> None:
    with pytest.raises(RecipeError) as caught:
        find_recipe(name)
    assert part in str(caught.value)

"""Finds a recipe by name: the one place that knows where bundled recipes are."""

from pathlib import Path

import torchcompress
from torchcompress.core.errors import RecipeError, did_you_mean

_SUFFIXES = (".toml", ".json")


def recipe_folder(package: Path = Path(torchcompress.__file__).parent) -> Path:
    """Returns the folder of the bundled recipes.

    A wheel holds them inside the package; in an editable checkout they stand beside it.

    Args:
        package: The folder of the package.
    """
    inside = package / "recipes"
    return inside if inside.is_dir() else package.parent / "recipes"


def bundled_recipes(folder: Path | None = None) -> dict[str, Path]:
    """Returns the bundled recipes by name, in alphabetical order.

    Args:
        folder: Where they are, by default `recipe_folder()`.
    """
    return {path.stem: path for path in sorted((folder or recipe_folder()).glob("*.toml"))}


def find_recipe(name: str | Path) -> Path:
    """Returns the file of a recipe.

    Args:
        name: A bundled recipe's name, or the path of a `.toml` or `.json` file.

    Raises:
        RecipeError: There is no such recipe.
    """
    bundled = bundled_recipes()
    path = Path(name)
    if str(name) in bundled:
        return bundled[str(name)]
    if path.suffix not in _SUFFIXES:
        raise RecipeError(
            f"{str(name)!r} is not a bundled recipe, and the name of a file ends in .toml",
            where="recipe",
            hint=did_you_mean(str(name), bundled),
        )
    if not path.is_file():
        raise RecipeError(
            "there is no such file",
            where=str(name),
            hint="a bundled recipe is given by its name alone: torchcompress recipes lists them",
        )
    return path

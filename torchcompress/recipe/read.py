"""From a recipe's file to a `Recipe`."""

import json
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torchcompress.core.errors import RecipeError
from torchcompress.recipe.faults import key_path
from torchcompress.recipe.finder import find_recipe
from torchcompress.recipe.schema import Recipe

_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")


def load_recipe(name: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe.

    Args:
        name: A bundled recipe's name, or the path of a `.toml` file or a resolved `recipe.json`.
        overrides: Values that replace or add a key, such as `stage.0.epochs=3`. A value is read
            as TOML; what is not TOML is text.

    Raises:
        RecipeError: No such recipe, a file that cannot be read, or a recipe that cannot work.
    """
    path = find_recipe(name)
    values = _parse(path)
    for override in overrides:
        _override(values, override)
    return Recipe.model_validate(values)


def _parse(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot be read: {error}", where=str(path)) from error
    try:
        values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecipeError(
            f"is not {'JSON' if path.suffix == '.json' else 'TOML'}: {error}",
            where=str(path),
            hint="mend the line that is named; a key may stand only once in its table",
        ) from error
    if not isinstance(values, dict):
        raise RecipeError("holds no table", where=str(path))
    return values


def _override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    steps = _steps(key)
    if not equals or not steps:
        raise RecipeError(
            "is not of the form key.path=value",
            where=f"--set {override}",
            hint="for example --set data.batch_size=64 or --set stage.0.epochs=3",
        )
    place: Any = values
    for depth, step in enumerate(steps[:-1]):
        place = _enter(place, step, steps[:depth])
    _assign(place, steps[-1], _value(text), steps[:-1])


def _steps(key: str) -> list[str | int]:
    steps: list[str | int] = []
    position = 0
    while position < len(key):
        match = _STEP.match(key, position)
        if match is None:
            return []
        name = match[1] or match[2]
        steps.append(int(name) if name.isdecimal() else name)
        position = match.end()
    return steps


def _enter(place: Any, step: str | int, path: Sequence[str | int]) -> Any:
    if isinstance(place, list):
        return place[_index(place, step, path)]
    return _table(place, path).setdefault(str(step), {})


def _assign(place: Any, step: str | int, value: Any, path: Sequence[str | int]) -> None:
    if isinstance(place, list):
        place[_index(place, step, path)] = value
    else:
        _table(place, path)[str(step)] = value


def _index(place: list[Any], step: str | int, path: Sequence[str | int]) -> int:
    if not isinstance(step, int) or step >= len(place):
        raise RecipeError(
            f"there is no item {step!r} in this list of {len(place)}",
            where=f"--set {key_path(path)}",
            hint=f"count from 0: {key_path([*path, 0])}" if place else None,
        )
    return step


def _table(place: Any, path: Sequence[str | int]) -> dict[str, Any]:
    if not isinstance(place, dict):
        raise RecipeError(
            f"{place!r} is not a table and holds no keys", where=f"--set {key_path(path)}"
        )
    return place


def _value(text: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    return parsed["value"] if len(parsed) == 1 else text

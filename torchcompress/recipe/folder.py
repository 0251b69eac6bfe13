"""The folder of a run's result: whether it may be used, and what it is called."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torchcompress.core.errors import RecipeError
from torchcompress.core.files import write_text
from torchcompress.recipe.schema import Recipe

RECIPE, REPORT_JSON, REPORT_HTML, MODEL = "recipe.json", "report.json", "report.html", "model.tcz"


def default_folder(recipe: Recipe) -> Path:
    """Returns where the result goes when nothing else is said."""
    return Path("runs") / recipe.name


def check_folder(folder: Path, recipe: Recipe) -> None:
    """Checks that a result can be written; nothing is left on the disk.

    Args:
        folder: Where the result goes.
        recipe: What will run.

    Raises:
        RecipeError: The folder cannot be written, or holds something other than a result of this
            very recipe.
    """
    if folder.is_dir() and any(folder.iterdir()):
        _check_content(folder, recipe)
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    try:
        tempfile.TemporaryFile(dir=existing).close()
    except OSError as error:
        raise _refused(folder, f"cannot be written ({error.strerror})") from error


def open_folder(folder: Path, recipe: Recipe) -> None:
    """Makes the folder, removes an older result and writes the resolved recipe.

    Args:
        folder: What `check_folder` accepts.
        recipe: What will run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in (MODEL, REPORT_JSON, REPORT_HTML):
        (folder / name).unlink(missing_ok=True)
    write_text(folder / RECIPE, json.dumps(recipe.to_json(), indent=2) + "\n")


def stage_file(index: int, kind: str, suffix: str) -> str:
    """Returns the name of a file of one stage: `01-prune.channels.tcz`.

    Args:
        index: The stage, counted from 0.
        kind: Its kind.
        suffix: The ending, with its dot.
    """
    return f"{index + 1:02d}-{kind}{suffix}"


def _check_content(folder: Path, recipe: Recipe) -> None:
    try:
        other = json.loads((folder / RECIPE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _refused(folder, "is not empty and holds no result of a recipe") from error
    old, new = dict(_leaves(other)), dict(_leaves(recipe.to_json()))
    differing = sorted(k for k in old.keys() | new.keys() if old.get(k) != new.get(k))
    if differing:
        raise _refused(
            folder,
            f"holds the result of another recipe ({old.get('name')}), which differs in "
            f"{', '.join(differing[:3])}{', ...' if len(differing) > 3 else ''}",
        )


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{path}[{index}]")
    else:
        yield path, value


def _refused(folder: Path, what: str) -> RecipeError:
    return RecipeError(what, where=str(folder), hint="give another folder with --out")

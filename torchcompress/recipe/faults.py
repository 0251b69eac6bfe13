"""Turns what pydantic finds wrong into messages that name the key and a way out."""

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from torchcompress.core.errors import CompressError, RecipeError, did_you_mean

_NEEDED = {
    "bool_type": "true or false",
    "dict_type": "a table",
    "float_type": "a number",
    "int_type": "a whole number",
    "list_type": "a list",
    "model_type": "a table",
    "string_type": "a text",
}
_TYPE_NAMES = {
    bool: "a boolean",
    dict: "a table",
    float: "a number",
    int: "a whole number",
    list: "a list",
    str: "a text",
}
_UNQUOTED = re.compile(r"true|false|[+-]?\d+(\.\d+)?([eE][+-]?\d+)?")


def fault(what: str, *, key: str = "", hint: str | None = None) -> PydanticCustomError:
    """Returns the error that a validator raises about its table or a key in it.

    Args:
        what: What is wrong.
        key: The path of the key at fault, from where the validator stands.
        hint: What to do next.
    """
    context = {"what": what, "key": key, "hint": hint}
    return PydanticCustomError("recipe_fault", "{what}", context)


@contextmanager
def as_fault(key: str = "") -> Iterator[None]:
    """Raises a `CompressError` of the block as a fault of the key that it names.

    Args:
        key: The key at fault. Without it the error says which: `config.lr` is the key `lr` of the
            table at hand.
    """
    try:
        yield
    except CompressError as error:
        key = key or (error.where or "").partition(".")[2]
        raise fault(error.what, key=key, hint=error.hint) from error


@contextmanager
def as_recipe_error(path: str, keys: Collection[str]) -> Iterator[None]:
    """Raises a `CompressError` of the block as a `RecipeError` about a table.

    Args:
        path: The path of the table whose values led to the error.
        keys: The keys of that table; where the error names one of them, it joins the path.
    """
    try:
        yield
    except CompressError as error:
        place = error.where or ""
        if re.split(r"[.\[]", place)[0] in keys:
            where = f"{path}.{place}"
        else:
            where = f"{path} ({place})" if place else path
        raise RecipeError(error.what, where=where, hint=error.hint) from error


def recipe_error(error: ValidationError, kinds: Sequence[str]) -> RecipeError:
    """Returns all that a validation found wrong as one error.

    Args:
        error: What pydantic raised.
        kinds: The kinds of stages, which pydantic puts into its paths.
    """
    found = [_readable(details, kinds) for details in error.errors()]
    if len(found) == 1:
        return found[0]
    return RecipeError("\n".join([f"{len(found)} faults", *map(str, found)]))


def key_path(parts: Sequence[int | str]) -> str:
    """Returns a path as users write it: `stage[1].epochs`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return text.removeprefix(".")


def _readable(details: ErrorDetails, kinds: Sequence[str]) -> RecipeError:
    location = details["loc"]
    tags = {i for i in range(1, len(location)) if isinstance(location[i - 1], int)}
    parts = [p for i, p in enumerate(location) if not (i in tags and p in kinds)]
    context = details.get("ctx", {})
    if details["type"] == "recipe_fault":
        parts += [context["key"]] if context["key"] else []
        return RecipeError(context["what"], where=key_path(parts), hint=context["hint"])
    what, hint = _wording(details["type"], details["input"], details["msg"], context)
    return RecipeError(what, where=key_path(parts), hint=hint)


def _wording(
    kind: str, value: Any, message: str, context: dict[str, Any]
) -> tuple[str, str | None]:
    if kind == "missing":
        return "is missing", "it has no default"
    if kind in _NEEDED:
        given = _TYPE_NAMES.get(type(value), type(value).__name__)
        what = f"{value!r} is {given} where {_NEEDED[kind]} is needed"
        quoted = isinstance(value, str) and _UNQUOTED.fullmatch(value)
        return what, "write it without quotes" if quoted else None
    if kind == "literal_error":
        known = re.findall(r"'([^']*)'", context["expected"])
        what = f"{value!r} is not known here"
        return what, did_you_mean(str(value), known) if known else f"write {context['expected']}"
    return f"{value!r} cannot be used: {message[:1].lower()}{message[1:]}", None

"""Reading where a plan's weights come from, out of JSON values that nobody vouches for."""

import math
from typing import Any

from torchcompress.core.errors import ArtifactError
from torchcompress.quantization.sources import AnySource, Constant, Norm, Source

_SOURCE = {"shape", "weight", "bias", "norms", "transposed_groups", "rows", "zeroed"}
_CONSTANT = {"shape", "dtype", "name", "numbers"}
_NORM = {"mean", "var", "eps", "weight", "bias"}
_LARGEST = 2**24


def parse_sources(data: Any) -> dict[str, AnySource]:
    """Reads the sources of a plan; nothing in them is believed.

    Args:
        data: By key, what the source's `to_json` returned, or anything else.

    Raises:
        ArtifactError: Not sources, with the place.
    """
    _need(isinstance(data, dict), "must be an object", "plan.sources")
    return {key: _parse(value, f"plan.sources.{key}") for key, value in data.items()}


def _parse(data: Any, where: str) -> AnySource:
    _need(isinstance(data, dict), "must be an object", where)
    return (_parse_constant if set(data) == _CONSTANT else _parse_source)(data, where)


def _parse_constant(data: Any, where: str) -> Constant:
    shape, name, numbers = data["shape"], data["name"], data["numbers"]
    good = isinstance(shape, list) and len(shape) <= 8 and all(_is_size(n) for n in shape)
    _need(good, "shape must be sizes", where)
    _need(data["dtype"] in ("float32", "int64"), "dtype must be float32 or int64", where)
    _need(_is_name(name), "name must be text", where)
    kinds = (int,) if data["dtype"] == "int64" else (int, float)
    good = isinstance(numbers, list) and all(type(n) in kinds and _fits(n) for n in numbers)
    _need(good, "numbers must be finite", where)
    count = math.prod(shape) if name is None else 0
    _need(len(numbers) == count, f"needs {count} numbers", where)
    return Constant(tuple(shape), data["dtype"], name, tuple(numbers))


def _fits(number: float) -> bool:
    return math.isfinite(number) and abs(number) < (2**62 if type(number) is int else 3e38)


def _parse_source(data: Any, where: str) -> Source:
    _need(isinstance(data, dict) and set(data) == _SOURCE, "has other fields", where)
    shape, groups, norms = data["shape"], data["transposed_groups"], data["norms"]
    good = isinstance(shape, list) and 2 <= len(shape) <= 5 and all(_is_size(n) for n in shape)
    _need(good, "shape must be 2 to 5 sizes", where)
    whole = type(groups) is int and (groups == 0 or (groups > 0 and shape[0] % groups == 0))
    _need(whole and (groups == 0 or len(shape) > 2), "transposed_groups do not fit", where)
    plain = len(shape) == 2 and not norms and data["weight"] is not None
    rows = _parse_range(data["rows"], plain, shape[0], f"{where}.rows")
    channels = shape[0] if rows is None else rows[1] - rows[0]
    zeroed = _parse_range(data["zeroed"], len(shape) == 2, channels, f"{where}.zeroed")
    _need(_is_name(data["weight"]) and _is_name(data["bias"]), "names must be text", where)
    _need(isinstance(norms, list), "norms must be a list", where)
    if data["weight"] is None:
        # Ones of this shape are made, so it is bounded here and not by the model's tensors.
        _need(bool(norms) and shape[1:] == [1, 1, 1], "a norm alone scales channels", where)
    return Source(
        tuple(shape),
        data["weight"],
        data["bias"],
        tuple(_parse_norm(norm, f"{where}.norms[{n}]") for n, norm in enumerate(norms)),
        groups,
        rows,
        zeroed,
    )


def _parse_range(value: Any, allowed: bool, size: int, where: str) -> tuple[int, int] | None:
    if value is None:
        return None
    good = isinstance(value, list) and len(value) == 2 and all(type(n) is int for n in value)
    _need(allowed and good and 0 <= value[0] < value[1] <= size, "is not a range of it", where)
    return value[0], value[1]


def _parse_norm(data: Any, where: str) -> Norm:
    _need(isinstance(data, dict) and set(data) == _NORM, "has other fields", where)
    _need(isinstance(data["mean"], str) and isinstance(data["var"], str), "needs names", where)
    _need(_is_name(data["weight"]) and _is_name(data["bias"]), "names must be text", where)
    eps = data["eps"]
    good = type(eps) in (int, float) and math.isfinite(eps) and eps >= 0
    _need(good, "eps must be a number that is not negative", where)
    return Norm(**data)


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 < value <= _LARGEST


def _is_name(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _need(met: bool, what: str, where: str) -> None:
    if not met:
        raise ArtifactError(what, where=where, hint="the file is damaged or of another version")

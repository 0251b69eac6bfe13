"""Reading where a plan's weights come from, out of JSON values that nobody vouches for."""

import math
from typing import Any

from torchcompress.core.errors import ArtifactError
from torchcompress.quantization.sources import Norm, Source

_SOURCE = {"shape", "weight", "bias", "norms", "transposed_groups"}
_NORM = {"mean", "var", "eps", "weight", "bias"}
_LARGEST = 2**24


def parse_sources(data: Any) -> dict[str, Source]:
    """Reads the sources of a plan; nothing in them is believed.

    Args:
        data: By layer, what `Source.to_json` returned, or anything else.

    Raises:
        ArtifactError: Not sources, with the place.
    """
    _need(isinstance(data, dict), "must be an object", "plan.sources")
    return {key: _parse_source(value, f"plan.sources.{key}") for key, value in data.items()}


def _parse_source(data: Any, where: str) -> Source:
    _need(isinstance(data, dict) and set(data) == _SOURCE, "has other fields", where)
    shape, groups, norms = data["shape"], data["transposed_groups"], data["norms"]
    good = isinstance(shape, list) and len(shape) in (2, 4) and all(_is_size(n) for n in shape)
    _need(good, "shape must be 2 or 4 sizes", where)
    whole = type(groups) is int and (groups == 0 or (groups > 0 and shape[0] % groups == 0))
    _need(whole and (groups == 0 or len(shape) == 4), "transposed_groups do not fit", where)
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
    )


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

"""Plans: plain data that says what a transformation will change."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import ValidationError
from torch import nn

from torchcompress.core.errors import ArtifactError, did_you_mean

_KINDS: dict[str, type["Plan"]] = {}
_HINT = "give what plan_to_json returned, unchanged"


class Plan(ABC):
    """What a transformation will change, as plain data.

    A plan prints itself as a table, round-trips through JSON, and can be applied to a fresh copy
    of the architecture that it was made for. A subclass names its `kind`.
    """

    kind: ClassVar[str]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "kind" in cls.__dict__:
            _KINDS[cls.kind] = cls

    @abstractmethod
    def apply(self, model: nn.Module, *, inplace: bool = False) -> nn.Module:
        """Returns the changed model; `model` itself is changed only where `inplace`."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Returns the plan as JSON values."""

    @classmethod
    @abstractmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Returns the plan that `to_json` described."""

    @abstractmethod
    def __str__(self) -> str:
        """Returns the plan as a table."""


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """Returns a plan of any kind as JSON values, its kind included."""
    return {"kind": plan.kind, **plan.to_json()}


def plan_from_json(data: dict[str, Any]) -> Plan:
    """Returns the plan that `plan_to_json` described.

    Raises:
        ArtifactError: A kind that this version does not know, or fields that are missing or of
            another type; the first is named.
    """
    if not isinstance(data, Mapping):
        raise ArtifactError(f"is a {type(data).__name__}, not a dict", where="plan", hint=_HINT)
    fields = dict(data)
    kind = fields.pop("kind", None)
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ArtifactError(
            f"{kind!r} is not a kind of plan", where="plan", hint=did_you_mean(str(kind), _KINDS)
        )
    try:
        return _KINDS[kind].from_json(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(("plan", *map(str, first["loc"])))
        raise ArtifactError(first["msg"], where=where, hint=_HINT) from error
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        what = f"is no plan of kind {kind}: {type(error).__name__}: {error}"
        raise ArtifactError(what, where="plan", hint=_HINT) from error

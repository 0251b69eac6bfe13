"""What every table of a recipe has in common: it is strict."""

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from torchcompress.core.errors import did_you_mean
from torchcompress.recipe.faults import fault


class Section(BaseModel):
    """A table of a recipe: typed, immutable, and without unknown keys."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        validate_default=True,
        use_attribute_docstrings=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _knows_every_key(cls, data: Any) -> Any:
        known = [field.alias or name for name, field in cls.model_fields.items()]
        for key in data if isinstance(data, dict) else ():
            if key not in known:
                raise fault("unknown key", key=str(key), hint=did_you_mean(str(key), known))
        return data

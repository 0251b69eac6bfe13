"""The errors that torchcompress raises, for `except`; `CompressError` is the base of all."""

from torchcompress.core.errors import (
    ArtifactError,
    CalibrationError,
    CompressError,
    ExtensionError,
    RecipeError,
    TargetUnreachable,
    TraceError,
    UnsupportedError,
)

__all__ = [
    "ArtifactError",
    "CalibrationError",
    "CompressError",
    "ExtensionError",
    "RecipeError",
    "TargetUnreachable",
    "TraceError",
    "UnsupportedError",
]

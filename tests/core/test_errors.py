import pytest

from torchcompress import errors
from torchcompress.core.errors import CompressError, did_you_mean


def test_a_message_says_where_what_and_what_next() -> None:
    error = errors.RecipeError("is not a key", where="stage[0].epochz", hint="did you mean epochs?")
    assert str(error) == "stage[0].epochz: is not a key\n  -> did you mean epochs?"


@pytest.mark.parametrize(
    "kind",
    [
        errors.RecipeError,
        errors.TraceError,
        errors.ExtensionError,
        errors.TargetUnreachable,
        errors.CalibrationError,
        errors.ArtifactError,
        errors.UnsupportedError,
    ],
)
def test_every_error_is_a_compress_error(kind: type[CompressError]) -> None:
    assert issubclass(kind, CompressError)
    assert str(kind("what")) == "what"


def test_the_nearest_name_is_suggested() -> None:
    assert did_you_mean("epochz", ["epochs", "lr"]) == "did you mean 'epochs'?"
    assert did_you_mean("xyz", ["b", "a"]) == "known: a, b"
    assert did_you_mean("xyz", []) == "nothing is known here"

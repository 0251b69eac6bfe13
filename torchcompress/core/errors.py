"""The errors that torchcompress raises, and the wording that they share."""

import difflib
from collections.abc import Iterable


class CompressError(Exception):
    """Base of every error raised on purpose.

    Args:
        what: What went wrong, one sentence.
        where: The module, key, batch or file at fault.
        hint: What to do next.
    """

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        self.what = what
        self.where = where
        self.hint = hint
        message = f"{where}: {what}" if where else what
        super().__init__(f"{message}\n  -> {hint}" if hint else message)


class RecipeError(CompressError):
    """A recipe, a `--set` or a command-line value that cannot work."""


class TraceError(CompressError):
    """A model whose forward pass could not be followed."""


class ExtensionError(CompressError):
    """A function of the user's, such as a rule or a mend, that fails or gives what it must not."""


class TargetUnreachable(CompressError):
    """A target that the removable part of a model cannot meet."""


class CalibrationError(CompressError):
    """Calibration data that is empty, not finite or of the wrong shape."""


class ArtifactError(CompressError):
    """A file that is not a sound artifact, or cannot be written as one."""


class UnsupportedError(CompressError):
    """Something that is understood but not possible here."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns a hint that names the nearest known name, or lists them all.

    Args:
        name: What was given.
        known: What would have been accepted.
    """
    names = sorted(set(known))
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if near:
        return "did you mean " + " or ".join(repr(n) for n in near) + "?"
    shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    return f"known: {shown}" if names else "nothing is known here"

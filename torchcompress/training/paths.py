"""Checks on paths before the work starts whose result goes there."""

from pathlib import Path

from torchcompress.core.errors import CompressError


def require_folder(path: Path) -> None:
    """Refuses a file whose folder does not exist.

    Args:
        path: The file to be written later.

    Raises:
        CompressError: The folder does not exist.
    """
    if not path.parent.is_dir():
        raise CompressError("its folder does not exist", where=str(path), hint="make it first")

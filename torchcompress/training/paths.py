"""Checks on paths before the work starts whose result goes there."""

from pathlib import Path

from torchcompress.core.errors import CompressError
from torchcompress.core.files import real_file


def require_writable(path: Path) -> None:
    """Refuses a path where no file can be made or replaced.

    Args:
        path: The file to be written later.

    Raises:
        CompressError: The folder does not exist, or what is there is no regular file.
    """
    try:
        folder = real_file(path).parent
    except FileExistsError as error:
        raise CompressError(
            "this is not a regular file", where=str(path), hint="choose another name"
        ) from error
    if not folder.is_dir():
        raise CompressError("its folder does not exist", where=str(path), hint="make it first")

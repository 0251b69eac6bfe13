"""Writing files whole or not at all."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def real_file(path: str | Path) -> Path:
    """Returns where writing to `path` ends: links are followed, so that a link stays a link.

    Args:
        path: A file, or where one may be made.

    Raises:
        FileExistsError: A folder, a device or anything else that is no regular file is there.
    """
    real = Path(os.path.realpath(path))
    if os.path.lexists(real) and not real.is_file():
        raise FileExistsError(errno.EEXIST, "this is not a regular file", str(path))
    return real


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`, which takes its place once the block has ended well.

    What the block wrote has reached the disk by then. Where it fails, the temporary file is
    removed and an older `path` stays as it was.

    Args:
        path: The file to make or replace; a link is followed.

    Raises:
        FileExistsError: A folder, a device or anything else that is no regular file is there.
    """
    path = real_file(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Writes a text file whole or not at all.

    Args:
        path: The file to make or replace.
        text: Its content.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")

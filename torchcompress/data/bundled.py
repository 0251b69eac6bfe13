"""The files that ship with the package: a small data set and a trained network."""

from importlib.resources import files
from pathlib import Path

from torchcompress.core.errors import CompressError, did_you_mean


def bundled_file(name: str) -> Path:
    """Returns the path of a bundled file.

    Args:
        name: The file's name, with or without what follows its first dot:
            `resnet18_fashion_mnist_32px` finds the checkpoint of that name.

    Raises:
        CompressError: No file of that name is bundled.
    """
    folder = Path(str(files("torchcompress.data") / "bundled"))
    for path in sorted(folder.iterdir()):
        if name in (path.name, path.name.partition(".")[0]):
            return path
    known = [path.name.partition(".")[0] for path in folder.iterdir()]
    raise CompressError(f"{name!r} is not bundled", where="bundled", hint=did_you_mean(name, known))

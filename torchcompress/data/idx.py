"""The idx file format of MNIST and its successors, plain or gzipped."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from torchcompress.core.errors import CompressError

_UINT8 = 0x08


def read_idx(path: Path) -> Tensor:
    """Returns the tensor that an idx file of unsigned bytes holds.

    Args:
        path: The file; a name that ends in `.gz` is gunzipped.

    Returns:
        A uint8 tensor of the shape in the file's header.

    Raises:
        CompressError: The file is damaged, cut short, or holds another type.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _damaged(path, "not a sound gzip file") from error
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] != _UINT8:
        raise _damaged(path, "not an idx file of unsigned bytes")
    start = 4 + 4 * data[3]
    if len(data) < start:
        raise _damaged(path, "the header is cut short")
    shape = struct.unpack(f">{data[3]}I", data[4:start])
    if len(data) - start != math.prod(shape):
        raise _damaged(path, f"holds {len(data) - start} bytes where {shape} was announced")
    return torch.from_numpy(np.frombuffer(data, np.uint8, offset=start).reshape(shape).copy())


def write_idx(path: Path, values: Tensor) -> None:
    """Writes a gzipped idx file; equal tensors give equal files.

    Args:
        path: The file to write.
        values: A uint8 tensor of at most 255 dimensions.
    """
    header = b"\0\0" + bytes([_UINT8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    data = header + values.contiguous().numpy().tobytes()
    path.write_bytes(gzip.compress(data, compresslevel=9, mtime=0))


def _damaged(path: Path, what: str) -> CompressError:
    return CompressError(what, where=str(path), hint="fetch the file again")

"""Tensors as bytes: each is stored by whichever encoding is smallest."""

from collections.abc import Callable

import torch
from torch import Tensor

from torchcompress.core.errors import ArtifactError
from torchcompress.deploy.numbers import pack_planes, pack_sparse, unpack_planes, unpack_sparse
from torchcompress.deploy.streams import inflated

DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
        torch.uint8,
        torch.bool,
    )
}
"""The dtypes that an artifact may hold, by name."""


Decode = Callable[[bytes, int, int], bytes]
"""Unpacks the little-endian bytes of a tensor in row-major order.

Takes what is stored, the exact size to expect, which it never exceeds, and the bytes of an element.
"""


def _stored(data: bytes, size: int, width: int) -> bytes:
    if len(data) != size:
        raise ArtifactError(f"{len(data)} bytes are stored where {size} are declared")
    return data


ENCODINGS: dict[str, Decode] = {
    "raw": _stored,
    "deflate": lambda data, size, width: inflated(data, size),
    "planes": unpack_planes,
    "sparse": unpack_sparse,
}
"""How each encoding is read. The first version of the format wrote `deflate`, which none writes."""

_SLOWER = 0.98
"""What a sparse tensor must save to be worth two streams where one would do."""

_FEW_ZEROS, _FEW_NUMBERS = 1 / 64, 1 / 8
"""Shares at which only one way is tried, since the other cannot be smaller."""


def encode(tensor: Tensor) -> tuple[str, bytes]:
    """Returns the name of the smallest encoding of a tensor, and its bytes.

    Of encodings that differ by less than 2 %, the one that is quicker to read.

    Args:
        tensor: Of a dtype in `DTYPES`, on any device.

    Raises:
        ArtifactError: A dtype that an artifact cannot hold.
    """
    if dtype_name(tensor) not in DTYPES:
        raise ArtifactError(f"a tensor of dtype {tensor.dtype} cannot be stored")
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    raw = flat.view(torch.uint8).numpy().tobytes()
    numbers = int(flat.count_nonzero()) / max(flat.numel(), 1)
    ways = {"raw": raw}
    if numbers > _FEW_NUMBERS:
        ways["planes"] = pack_planes(raw, tensor.itemsize)
    best = min(ways, key=lambda name: len(ways[name]))
    if numbers < 1 - _FEW_ZEROS:
        sparse = pack_sparse(raw, tensor.itemsize)
        if len(sparse) < _SLOWER * len(ways[best]):
            return "sparse", sparse
    return best, ways[best]


def decode(encoding: str, data: bytes, dtype: str, shape: tuple[int, ...]) -> Tensor:
    """Returns the tensor that `encode` stored, bit for bit.

    Args:
        encoding: A name in `ENCODINGS`.
        data: The stored bytes.
        dtype: A name in `DTYPES`.
        shape: The tensor's shape.

    Raises:
        ArtifactError: The bytes do not hold a tensor of this dtype and shape.
    """
    count = 1
    for size in shape:
        count *= size
    width = DTYPES[dtype].itemsize
    raw = ENCODINGS[encoding](data, count * width, width)
    if not raw:
        return torch.empty(shape, dtype=DTYPES[dtype])
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8).view(DTYPES[dtype]).reshape(shape)


def dtype_name(tensor: Tensor) -> str:
    """Returns the name of a tensor's dtype, such as `float32`."""
    return str(tensor.dtype).removeprefix("torch.")

"""Tensors as bytes: each is stored by whichever encoding is smallest."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from torchcompress.core.errors import ArtifactError

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


@dataclass(frozen=True)
class Encoding:
    """One way to store the little-endian bytes of a tensor in row-major order.

    Attributes:
        encode: Packs the bytes.
        decode: Unpacks them; takes the exact size to expect and never produces more.
    """

    encode: Callable[[bytes], bytes]
    decode: Callable[[bytes, int], bytes]


def _inflate(data: bytes, size: int) -> bytes:
    inflater = zlib.decompressobj()
    raw = inflater.decompress(data, size + 1)
    if len(raw) != size or not inflater.eof:
        raise ArtifactError(f"other than the {size} declared bytes are unpacked")
    return raw


def _stored(data: bytes, size: int) -> bytes:
    if len(data) != size:
        raise ArtifactError(f"{len(data)} bytes are stored where {size} are declared")
    return data


ENCODINGS = {
    "raw": Encoding(lambda data: data, _stored),
    "deflate": Encoding(lambda data: zlib.compress(data, 9), _inflate),
}


def encode(tensor: Tensor) -> tuple[str, bytes]:
    """Returns the name of the smallest encoding of a tensor, and its bytes.

    Args:
        tensor: Of a dtype in `DTYPES`, on any device.

    Raises:
        ArtifactError: A dtype that an artifact cannot hold.
    """
    if dtype_name(tensor) not in DTYPES:
        raise ArtifactError(f"a tensor of dtype {tensor.dtype} cannot be stored")
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    raw = flat.view(torch.uint8).numpy().tobytes()
    encoded = {name: encoding.encode(raw) for name, encoding in ENCODINGS.items()}
    best = min(encoded, key=lambda name: len(encoded[name]))
    return best, encoded[best]


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
    try:
        raw = ENCODINGS[encoding].decode(data, count * DTYPES[dtype].itemsize)
    except zlib.error as error:
        raise ArtifactError(f"a tensor cannot be unpacked: {error}") from error
    if not raw:
        return torch.empty(shape, dtype=DTYPES[dtype])
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8).view(DTYPES[dtype]).reshape(shape)


def dtype_name(tensor: Tensor) -> str:
    """Returns the name of a tensor's dtype, such as `float32`."""
    return str(tensor.dtype).removeprefix("torch.")

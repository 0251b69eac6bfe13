"""Masks as text: one bit a weight, compressed."""

import base64
import binascii
import math
import zlib

import numpy as np
import torch
from torch import Tensor

from torchcompress.core.errors import ArtifactError

_STRATEGIES = (zlib.Z_HUFFMAN_ONLY, zlib.Z_DEFAULT_STRATEGY)


def pack(mask: Tensor) -> str:
    """Returns a mask as base64 text.

    Args:
        mask: Any shape, bool.
    """
    bits = np.packbits(mask.detach().cpu().contiguous().numpy().ravel()).tobytes()
    # Scattered zeros repeat no strings: looking for any makes them longer.
    packed = min((_compressed(bits, strategy) for strategy in _STRATEGIES), key=len)
    return base64.b64encode(packed).decode("ascii")


def unpack(text: str, shape: tuple[int, ...], name: str) -> Tensor:
    """Returns the mask that `pack` wrote.

    No more is unpacked than the shape asks for, whatever the text holds.

    Args:
        text: What `pack` returned.
        shape: Of the mask.
        name: Of its weight, for the error.

    Raises:
        ArtifactError: It is no mask of this shape.
    """
    size = math.prod(shape)
    expected = -(-size // 8)
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(base64.b64decode(text, validate=True), expected + 1)
    except (binascii.Error, zlib.error, OverflowError, ValueError) as error:
        raise ArtifactError(f"its mask cannot be unpacked: {error}", where=name) from error
    if min(shape, default=1) < 1 or len(data) != expected or not stream.eof or stream.unused_data:
        raise ArtifactError(f"its mask is not one of the shape {shape}", where=name)
    bits = np.unpackbits(np.frombuffer(data, np.uint8), count=size)
    return torch.from_numpy(bits.astype(bool)).reshape(shape)


def _compressed(data: bytes, strategy: int) -> bytes:
    stream = zlib.compressobj(9, strategy=strategy)
    return stream.compress(data) + stream.flush()

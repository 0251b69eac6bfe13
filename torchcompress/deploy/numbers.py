"""Numbers as streams of bytes: where they are not zero, and one stream for each of their bytes.

The first bytes of trained floating-point weights, which hold the exponents, take few values, as
quantized weights do, and the zeros of a sparse tensor lie anywhere. So bytes of one place are coded
together, and of zeros only how many lie before the next number.
"""

import numpy as np

from torchcompress.core.errors import ArtifactError
from torchcompress.deploy.streams import pack, pack_count, unpack, unpack_count

_LONG = 255
"""Stands for so many zeros with no number after them."""


def pack_planes(data: bytes, width: int) -> bytes:
    """Returns a stream for each byte of numbers.

    Args:
        data: The numbers.
        width: Bytes of a number.
    """
    places = np.frombuffer(data, np.uint8).reshape(-1, width)
    return b"".join(pack(places[:, place].tobytes()) for place in range(width))


def unpack_planes(data: bytes, size: int, width: int) -> bytes:
    """Returns the numbers that `pack_planes` stored.

    Args:
        data: The streams.
        size: Bytes of all numbers.
        width: Bytes of a number.

    Raises:
        ArtifactError: The streams hold something else.
    """
    numbers, rest = _planes(memoryview(data), size // width, width)
    _check_end(rest)
    return numbers.tobytes()


def pack_sparse(data: bytes, width: int) -> bytes:
    """Returns the numbers that are not zero, how many zeros lie before each, and signs of zeros.

    A mask that is multiplied with floating-point weights leaves zeros of either sign. What counts
    as a zero are the bytes of both, so that an integer of the highest bit alone is one too.

    Args:
        data: The numbers.
        width: Bytes of a number.
    """
    numbers = np.frombuffer(data, f"<u{width}")
    zero = _zeros(numbers)
    at = np.flatnonzero(~zero)
    before = np.diff(at, prepend=-1) - 1
    longs = before // _LONG
    after = (len(numbers) - 1 - (int(at[-1]) if len(at) else -1)) // _LONG
    steps = np.full(len(at) + int(longs.sum()) + after, _LONG, np.uint8)
    steps[np.arange(len(at)) + np.cumsum(longs)] = before % _LONG
    counts = pack_count(len(at)) + pack_count(len(steps))
    values = pack_planes(numbers[at].tobytes(), width)
    signs = numbers[zero] != 0
    negative = pack(np.packbits(signs).tobytes()) if signs.any() else b""
    return counts + pack(steps.tobytes()) + values + negative


def unpack_sparse(data: bytes, size: int, width: int) -> bytes:
    """Returns the numbers that `pack_sparse` stored.

    Args:
        data: The streams.
        size: Bytes of all numbers.
        width: Bytes of a number.

    Raises:
        ArtifactError: The streams hold something else.
    """
    count, block = unpack_count(memoryview(data))
    length, block = unpack_count(block)
    total = size // width
    if count > total or not count <= length <= count + total // _LONG:
        raise ArtifactError(f"{count} numbers in {length} steps do not fit in {total}")
    packed, block = unpack(block, length)
    steps = np.frombuffer(packed, np.uint8)
    ends = steps != _LONG
    reached = np.cumsum(steps + ends.astype(np.int64))
    at, end = reached[ends] - 1, int(reached[-1]) if length else 0
    if len(at) != count or not end <= total < end + _LONG:
        raise ArtifactError(f"the steps lead to {len(at)} numbers among {end}, not to {count}")
    values, block = _planes(block, count, width)
    numbers = np.zeros(total, f"<u{width}")
    numbers[at] = values
    if len(block):
        signs, block = unpack(block, -(-(total - count) // 8))
        zero = np.ones(total, bool)
        zero[at] = False
        bits = np.unpackbits(np.frombuffer(signs, np.uint8), count=total - count)
        numbers[zero] = bits.astype(numbers.dtype) << numbers.dtype.type(8 * width - 1)
    _check_end(block)
    return numbers.tobytes()


def _zeros(numbers: np.ndarray) -> np.ndarray:
    """Returns which numbers are zeros of either sign, as they are without their highest bit."""
    return numbers << numbers.dtype.type(1) == 0


def _planes(block: memoryview, count: int, width: int) -> tuple[np.ndarray, memoryview]:
    """Returns numbers as unsigned integers, and what follows them."""
    planes = []
    for _ in range(width):
        plane, block = unpack(block, count)
        planes.append(np.frombuffer(plane, np.uint8))
    places = np.stack(planes, 1)  # No memory is taken before as much was unpacked.
    return places.view(f"<u{width}").reshape(count), block


def _check_end(rest: memoryview) -> None:
    if len(rest):
        raise ArtifactError(f"{len(rest)} bytes follow the last stream")

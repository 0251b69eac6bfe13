"""One stream of bytes, stored in whichever way is shortest."""

import zlib

import numpy as np

from torchcompress.core.errors import ArtifactError

_STORED, _DEFLATED, _GROUPED = 0, 1, 2
_KINDS = 4
_FEW = 16
"""Symbols of which a byte holds two or more."""

_RAW = -15
"""Window bits of a deflated stream without zlib's own header and checksum."""

_SAMPLE = 2**15
"""Bytes of each sample that tells whether matches help; deflate looks no further back."""

_SAMPLES = 8


def pack(data: bytes) -> bytes:
    """Returns a stream: its length and kind, then the bytes as they are, deflated or in groups.

    Huffman codes alone suit symbols without order, such as quantized weights. Matches suit runs;
    looking for them takes long, so samples tell whether there are any. A code wastes bits where
    there are few symbols; then as many as fit are made one.

    Args:
        data: The bytes.
    """
    ways = {_STORED: data, _DEFLATED: _deflated(data, matches=_repeats(data))}
    symbols = np.flatnonzero(np.bincount(np.frombuffer(data, np.uint8), minlength=256))
    if 2 <= len(symbols) <= _FEW:
        ways[_GROUPED] = bytes([len(symbols), *symbols]) + pack(_grouped(data, symbols))
    kind = min(ways, key=lambda kind: len(ways[kind]))
    return pack_count(_KINDS * len(ways[kind]) + kind) + ways[kind]


def _grouped(data: bytes, symbols: np.ndarray) -> bytes:
    """Returns numbers that each stand for several symbols."""
    size = _group_size(len(symbols))
    digits = np.zeros(-(-len(data) // size) * size, np.uint8)
    digits[: len(data)] = np.searchsorted(symbols, np.frombuffer(data, np.uint8))
    places = len(symbols) ** np.arange(size)
    return (digits.reshape(-1, size) @ places).astype(np.uint8).tobytes()


def _group_size(symbols: int) -> int:
    """Returns how many of so many symbols a byte can hold."""
    return next(size for size in range(8, 0, -1) if symbols**size <= 256)


def _repeats(data: bytes) -> bool:
    """Whether matches make the samples shorter."""
    last = len(data) - _SAMPLE
    starts = {max(last * index // (_SAMPLES - 1), 0) for index in range(_SAMPLES)}
    samples = [data[start : start + _SAMPLE] for start in starts]
    plain, matched = (
        sum(len(_deflated(sample, matches=matches)) for sample in samples)
        for matches in (False, True)
    )
    return matched < 0.99 * plain


def _deflated(data: bytes, *, matches: bool) -> bytes:
    strategy = zlib.Z_DEFAULT_STRATEGY if matches else zlib.Z_HUFFMAN_ONLY
    deflater = zlib.compressobj(6, zlib.DEFLATED, _RAW, 9, strategy)
    return deflater.compress(data) + deflater.flush()


def unpack(block: memoryview, size: int) -> tuple[bytes, memoryview]:
    """Returns the bytes of the stream that a block starts with, and the rest of the block.

    Args:
        block: Starts with what `pack` returned.
        size: How many bytes there must be; no more than one too many are ever produced.

    Raises:
        ArtifactError: The block is too short, or holds another number of bytes.
    """
    head, block = unpack_count(block)
    length, kind = divmod(head, _KINDS)
    packed, rest = block[:length], block[length:]
    if len(packed) != length:
        raise ArtifactError("a stream is cut short")
    if kind == _DEFLATED:
        return inflated(packed, size, _RAW), rest
    if kind == _GROUPED:
        return _ungrouped(packed, size), rest
    if kind != _STORED or length != size:
        raise ArtifactError(f"a stream holds {length} bytes where {size} are declared")
    return bytes(packed), rest


def _ungrouped(block: memoryview, size: int) -> bytes:
    """Returns the symbols that stand in groups."""
    count = block[0] if block else 0
    symbols = np.frombuffer(block[1 : 1 + count], np.uint8)
    if not 2 <= count <= _FEW or len(symbols) != count:
        raise ArtifactError(f"a stream has {count} symbols, of which {len(symbols)} are there")
    each = _group_size(count)
    data, rest = unpack(block[1 + count :], -(-size // each))
    groups = np.frombuffer(data, np.uint8)
    if len(rest) or groups.max(initial=0) >= count**each:
        raise ArtifactError("a stream of groups holds what is none")
    digits = np.arange(count**each)[:, None] // count ** np.arange(each) % count
    return symbols[digits][groups].reshape(-1)[:size].tobytes()


def pack_count(count: int) -> bytes:
    """Returns a whole number as bytes of seven bits, the lowest first, each but the last marked.

    Args:
        count: Not below 0.
    """
    low = bytearray()
    while count > 127:
        low.append(128 | count & 127)
        count >>= 7
    return bytes([*low, count])


def unpack_count(block: memoryview) -> tuple[int, memoryview]:
    """Returns the number that a block starts with, and the rest of the block.

    Args:
        block: Starts with what `pack_count` returned.

    Raises:
        ArtifactError: It does not.
    """
    count = 0
    for place, byte in enumerate(block[:10]):
        count |= (byte & 127) << 7 * place
        if byte < 128:
            return count, block[place + 1 :]
    raise ArtifactError("a stream ends before its length does")


def inflated(data: bytes | memoryview, size: int, window: int = zlib.MAX_WBITS) -> bytes:
    """Returns what was deflated.

    Args:
        data: The deflated bytes, and nothing after them.
        size: How many bytes there must be; no more than one too many are ever produced.
        window: Window bits, as zlib takes them.

    Raises:
        ArtifactError: It is not deflated, or holds another number of bytes.
    """
    inflater = zlib.decompressobj(window)
    try:
        raw = inflater.decompress(data, size + 1)
    except zlib.error as error:
        raise ArtifactError(f"a tensor cannot be unpacked: {error}") from error
    if len(raw) != size or not inflater.eof or inflater.unused_data:
        raise ArtifactError(f"other than the {size} declared bytes are unpacked")
    return raw

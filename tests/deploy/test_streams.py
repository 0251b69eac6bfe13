import math
import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchcompress.deploy.streams import inflated, pack, pack_count, unpack, unpack_count
from torchcompress.errors import ArtifactError


@given(st.binary(max_size=300), st.binary(max_size=9))
def test_bytes_come_back_and_what_follows_is_left(data: bytes, after: bytes) -> None:
    again, rest = unpack(memoryview(pack(data) + after), len(data))
    assert again == data
    assert bytes(rest) == after


@given(st.integers(0, 2**62))
def test_counts_of_any_size_come_back(count: int) -> None:
    again, rest = unpack_count(memoryview(pack_count(count) + b"x"))
    assert (again, bytes(rest)) == (count, b"x")


def test_the_shortest_way_is_found_in_long_streams() -> None:
    generator = random.Random(0)
    noise = generator.randbytes(400_000)
    assert len(pack(noise)) < len(noise) + 5
    assert len(pack(noise[:20_000] * 20)) < 30_000
    assert len(pack(bytes(generator.choices(range(4), k=400_000)))) < 101_000
    assert len(pack(bytes(400_000))) < 500


@pytest.mark.parametrize("symbols", range(1, 20))
def test_few_symbols_take_little_more_than_their_entropy(symbols: int) -> None:
    generator = random.Random(symbols)
    values = generator.sample(range(256), symbols)
    data = bytes(generator.choices(values, k=20_001))
    packed = pack(data)
    assert unpack(memoryview(packed), len(data))[0] == data
    assert len(packed) < 1.1 * 20_001 * math.log2(symbols) / 8 + 100


GROUPS = pack_count(4 * 7 + 2) + bytes([3, 5, 6, 7]) + pack(bytes([7, 242]))


@pytest.mark.parametrize(
    "block",
    [
        pack_count(2),
        pack_count(4 * 4 + 2) + bytes([1, 5]) + pack(b"\0"),
        pack_count(4 * 2 + 2) + bytes([3, 5]),
        GROUPS.replace(b"\xf2", b"\xf3"),
        pack_count(4 * 8 + 2) + GROUPS[1:] + b"x",
        pack_count(4 * 7 + 3) + GROUPS[1:],
    ],
)
def test_groups_that_are_none_are_refused(block: bytes) -> None:
    assert unpack(memoryview(GROUPS), 9)[0] == bytes([6, 7, 5, 5, 5, 7, 7, 7, 7])
    with pytest.raises(ArtifactError):
        unpack(memoryview(block), 9)


@pytest.mark.parametrize("block", [b"", b"\xff" * 12, b"\x81", pack(b"abc")[:-1]])
def test_blocks_that_end_too_early_are_refused(block: bytes) -> None:
    with pytest.raises(ArtifactError, match=r"ends before|cut short"):
        unpack(memoryview(block), 3)


@pytest.mark.parametrize("size", [0, 999, 1001])
@pytest.mark.parametrize("data", [bytes(1000), random.Random(0).randbytes(1000)])
def test_another_size_than_declared_is_refused(data: bytes, size: int) -> None:
    with pytest.raises(ArtifactError, match="declared"):
        unpack(memoryview(pack(data)), size)


def test_no_more_is_unpacked_than_declared() -> None:
    bomb = pack(bytes(4_000_000))
    assert len(bomb) < 6_000
    with pytest.raises(ArtifactError, match="other than the 10 declared"):
        unpack(memoryview(bomb), 10)


def test_bytes_after_a_deflated_stream_are_refused() -> None:
    with pytest.raises(ArtifactError, match="declared"):
        inflated(zlib.compress(b"abc") + b"x", 3)

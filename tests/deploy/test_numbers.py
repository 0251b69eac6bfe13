import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchcompress.deploy.numbers import pack_planes, pack_sparse, unpack_planes, unpack_sparse
from torchcompress.deploy.streams import pack, pack_count
from torchcompress.errors import ArtifactError

WIDTHS = st.sampled_from([1, 2, 4, 8])


@settings(deadline=None)
@given(WIDTHS, st.integers(0, 400), st.floats(0, 1), st.integers(0, 999))
def test_numbers_come_back_by_either_way(width: int, count: int, zeros: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    numbers = generator.integers(0, 256, (count, width), dtype=np.uint8)
    numbers[generator.random(count) < zeros] = 0
    numbers[generator.random(count) < zeros / 2, -1] |= 128
    data = numbers.tobytes()
    assert unpack_planes(pack_planes(data, width), len(data), width) == data
    assert unpack_sparse(pack_sparse(data, width), len(data), width) == data


@pytest.mark.parametrize("gap", [0, 1, 254, 255, 256, 509, 510, 511, 5000])
@pytest.mark.parametrize("after", [0, 254, 255, 256, 600])
def test_runs_of_zeros_of_any_length(gap: int, after: int) -> None:
    data = bytes(gap) + b"\x07" + bytes(gap) + b"\x09" + bytes(after)
    assert unpack_sparse(pack_sparse(data, 1), len(data), 1) == data


@pytest.mark.parametrize("width", [1, 2, 4, 8])
def test_zeros_of_either_sign_keep_their_signs_for_a_bit_each(width: int) -> None:
    generator = np.random.default_rng(0)
    numbers = np.zeros((1001, width), np.uint8)
    numbers[generator.random(1001) < 0.5, -1] = 128
    numbers[::10] = 3
    packed = pack_sparse(numbers.tobytes(), width)
    assert unpack_sparse(packed, 1001 * width, width) == numbers.tobytes()
    assert len(packed) < 1001 / 8 + 60
    with pytest.raises(ArtifactError):
        unpack_sparse(packed + b"x", 1001 * width, width)


def streams(count: int, steps: bytes, values: bytes) -> bytes:
    return pack_count(count) + pack_count(len(steps)) + pack(steps) + pack(values)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        streams(2, bytes([1, 1]), b"ab")[:-1],
        streams(2, bytes([1, 1]), b"ab") + b"x",
        streams(11, bytes(11), b"a" * 11),
        streams(2, bytes([1, 9]), b"ab"),
        streams(3, bytes([1, 1]), b"abc"),
        streams(1, bytes([255, 1]), b"a"),
        streams(2, bytes([1, 1]), b"abc"),
        streams(0, bytes([255] * 9), b""),
    ],
)
def test_streams_that_do_not_make_ten_numbers_are_refused(data: bytes) -> None:
    assert unpack_sparse(streams(2, bytes([1, 1]), b"ab"), 10, 1) == b"\0a\0b" + bytes(6)
    with pytest.raises(ArtifactError):
        unpack_sparse(data, 10, 1)

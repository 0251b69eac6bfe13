import random
import zlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torchcompress.deploy.encoding import DTYPES, ENCODINGS, decode, dtype_name, encode
from torchcompress.deploy.numbers import pack_planes, pack_sparse
from torchcompress.errors import ArtifactError
from torchcompress.metrics.size import entropy_bytes


@given(
    st.sampled_from(sorted(DTYPES)),
    st.lists(st.integers(0, 5), max_size=4),
    st.integers(0, 99),
    st.booleans(),
)
def test_every_dtype_and_shape_comes_back_bit_for_bit(
    dtype: str, shape: list[int], seed: int, dense: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(shape, generator=generator) * 50
    tensor = (values if dense else torch.zeros(shape)).to(DTYPES[dtype])
    encoding, data = encode(tensor)
    again = decode(encoding, data, dtype, tuple(shape))
    assert dtype_name(again) == dtype
    assert again.shape == tensor.shape
    assert torch.equal(again.view(-1), tensor.reshape(-1))


def test_nan_and_signed_zero_keep_their_bits() -> None:
    tensor = torch.tensor([float("nan"), -0.0, float("inf")])
    again = decode(*encode(tensor), "float32", (3,))
    assert torch.equal(again.view(torch.int32), tensor.view(torch.int32))


def test_strides_do_not_matter() -> None:
    tensor = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    assert torch.equal(decode(*encode(tensor), "float32", (2, 3, 4, 5)), tensor)


def sparse(tensor: torch.Tensor, zeros: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return tensor * (torch.rand(tensor.shape, generator=generator) >= zeros)


def gaussian(scale: float, dtype: torch.dtype, count: int = 60_000) -> torch.Tensor:
    values = scale * torch.randn(count, generator=torch.Generator().manual_seed(0))
    return (
        values.to(dtype) if dtype.is_floating_point else values.round().clamp(-127, 127).to(dtype)
    )


CASES = {
    "dense float32": (gaussian(0.02, torch.float32), "planes"),
    "half float32": (sparse(gaussian(0.02, torch.float32), 0.5), "sparse"),
    "sparse float32": (sparse(gaussian(0.02, torch.float32), 0.95), "sparse"),
    "sparse bfloat16": (sparse(gaussian(0.02, torch.bfloat16), 0.9), "sparse"),
    "narrow int8": (gaussian(2, torch.int8), "planes"),
    "wide int8": (gaussian(30, torch.int8), "planes"),
    "half int8": (sparse(gaussian(30, torch.int8), 0.5), "planes"),
    "sparse int8": (sparse(gaussian(30, torch.int8), 0.9), "sparse"),
    "very sparse int8": (sparse(gaussian(30, torch.int8, 1_000_000), 0.998), "sparse"),
}


@pytest.mark.parametrize("name", CASES)
def test_weights_take_little_more_than_their_entropy(name: str) -> None:
    tensor, expected = CASES[name]
    encoding, data = encode(tensor)
    assert encoding == expected
    assert len(data) < 1.1 * entropy_bytes(tensor)
    assert torch.equal(decode(encoding, data, dtype_name(tensor), tuple(tensor.shape)), tensor)


def test_constants_random_bytes_and_repeats_are_small_too() -> None:
    assert len(encode(torch.zeros(100_000))[1]) < 60
    assert len(encode(torch.ones(100_000))[1]) < 800
    assert len(encode(torch.arange(500).repeat(200))[1]) < 8000
    noise = torch.randint(0, 256, (1000,), dtype=torch.uint8)
    assert len(encode(noise)[1]) == 1000


def test_a_dtype_that_cannot_be_stored_is_refused() -> None:
    with pytest.raises(ArtifactError, match="complex64"):
        encode(torch.zeros(2, dtype=torch.complex64))


def stored(encoding: str, tensor: torch.Tensor) -> bytes:
    raw = tensor.numpy().tobytes()
    pack = {
        "raw": lambda: raw,
        "deflate": lambda: zlib.compress(raw, 9),
        "planes": lambda: pack_planes(raw, tensor.itemsize),
        "sparse": lambda: pack_sparse(raw, tensor.itemsize),
    }
    return pack[encoding]()


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_any_encoding_stores_is_read(encoding: str) -> None:
    tensor = sparse(gaussian(1, torch.float32, 1000), 0.7)
    again = decode(encoding, stored(encoding, tensor), "float32", (10, 100))
    assert torch.equal(again, tensor.view(10, 100))


@pytest.mark.parametrize("shape", [(900,), (0,), (1300,), (2**40,)])
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("zeros", [0.5, 1.0])
def test_bytes_that_hold_more_or_less_than_declared_are_refused(
    encoding: str, shape: tuple[int, ...], zeros: float
) -> None:
    tensor = sparse(gaussian(1, torch.float32, 1000), zeros)
    tensor[-1] = 1
    with pytest.raises(ArtifactError):
        decode(encoding, stored(encoding, tensor), "float32", shape)


@pytest.mark.parametrize("encoding", [name for name in ENCODINGS if name != "raw"])
@pytest.mark.parametrize("dtype", [torch.int8, torch.float32])
def test_damaged_bytes_are_an_error_or_give_a_tensor_of_the_declared_shape(
    encoding: str, dtype: torch.dtype
) -> None:
    whole = stored(encoding, sparse(gaussian(20, dtype, 600), 0.8))
    generator = random.Random(0)
    refused = 0
    for _ in range(1000):
        data = bytearray(whole)
        for _ in range(generator.randrange(1, 4)):
            place = generator.randrange(len(data))
            data[place] = generator.randrange(256)
        if generator.random() < 0.3:
            del data[generator.randrange(len(data)) :]
        try:
            again = decode(encoding, bytes(data), dtype_name(torch.zeros(0, dtype=dtype)), (600,))
        except ArtifactError:
            refused += 1
        else:
            assert again.shape == (600,)
    assert refused > 300


def test_bytes_that_cannot_be_unpacked_are_refused() -> None:
    with pytest.raises(ArtifactError, match="cannot be unpacked"):
        decode("deflate", b"no zlib stream", "float32", (4,))

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torchcompress.deploy.encoding import DTYPES, decode, dtype_name, encode
from torchcompress.errors import ArtifactError


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


def test_strides_do_not_matter_and_the_smallest_encoding_is_taken() -> None:
    tensor = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    assert torch.equal(decode(*encode(tensor), "float32", (2, 3, 4, 5)), tensor)
    encoding, data = encode(torch.zeros(1000))
    assert encoding == "deflate"
    assert len(data) < 40


def test_a_dtype_that_cannot_be_stored_is_refused() -> None:
    with pytest.raises(ArtifactError, match="complex64"):
        encode(torch.zeros(2, dtype=torch.complex64))


@pytest.mark.parametrize("shape", [(999,), (1001,), (0,)])
@pytest.mark.parametrize("encoding", ["raw", "deflate"])
def test_bytes_that_hold_more_or_less_than_declared_are_refused(
    encoding: str, shape: tuple[int, ...]
) -> None:
    tensor = torch.zeros(1000)
    data = encode(tensor)[1] if encoding == "deflate" else tensor.numpy().tobytes()
    with pytest.raises(ArtifactError, match="declared"):
        decode(encoding, data, "float32", shape)


def test_bytes_that_cannot_be_unpacked_are_refused() -> None:
    with pytest.raises(ArtifactError, match="cannot be unpacked"):
        decode("deflate", b"no zlib stream", "float32", (4,))

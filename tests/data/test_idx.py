import gzip
from pathlib import Path

import pytest
import torch

from torchcompress.core.errors import CompressError
from torchcompress.data.idx import read_idx, write_idx


@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 4)])
def test_what_is_written_is_read(tmp_path: Path, shape: tuple[int, ...]) -> None:
    values = torch.randint(256, shape, dtype=torch.uint8)
    write_idx(tmp_path / "a.gz", values)
    assert torch.equal(read_idx(tmp_path / "a.gz"), values)


def test_a_file_written_by_hand_is_read(tmp_path: Path) -> None:
    path = tmp_path / "plain"
    path.write_bytes(bytes([0, 0, 8, 2, 0, 0, 0, 1, 0, 0, 0, 3, 7, 8, 255]))
    assert read_idx(path).tolist() == [[7, 8, 255]]


def test_equal_tensors_give_equal_files(tmp_path: Path) -> None:
    values = torch.arange(200, dtype=torch.uint8).reshape(2, 100)
    write_idx(tmp_path / "a.gz", values)
    write_idx(tmp_path / "b.gz", values.t().contiguous().t())
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not gzip",
        gzip.compress(b"\0\0\x08\x01\0\0\0\x09abc"),
        gzip.compress(b"\0\0\x0d\x01\0\0\0\x01abcd"),
        gzip.compress(b"\0\0\x08\x03\0\0"),
        gzip.compress(b"\0\0\x08\x01\0\0\0\x03abc")[:-6],
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.gz"
    path.write_bytes(content)
    with pytest.raises(CompressError, match=r"broken\.gz"):
        read_idx(path)

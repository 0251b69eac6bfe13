"""The container: a zip of a manifest and one block of tensors, checked before it is believed."""

import hashlib
import json
import lzma
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError
from torch import Tensor

from torchcompress.core.errors import ArtifactError
from torchcompress.core.files import replacing
from torchcompress.deploy.encoding import DTYPES, ENCODINGS, decode, dtype_name, encode

FORMAT = "torchcompress"
VERSION = 2
READABLE = (1, 2)
"""Versions of the format that are read; the first had no tensors stored as planes or sparse."""
MANIFEST = "manifest.json"
TENSORS = "tensors.bin"
MANIFEST_LIMIT = 64 * 2**20
"""A manifest may unpack to this many bytes at most."""

_MALFORMED = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    KeyError,
    MemoryError,
    NotImplementedError,
    OverflowError,
    RecursionError,
    RuntimeError,
    UnicodeError,
    ValueError,
)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class StoredTensor(_Strict):
    """Where a tensor lies in the block, and what it is."""

    name: str
    dtype: str
    shape: list[int] = Field(max_length=16)
    encoding: str
    offset: int = Field(ge=0)
    length: int = Field(ge=0)
    sha256: str


class StoredArchitecture(_Strict):
    """How a fresh model is built."""

    name: str
    args: dict[str, JsonValue] = {}


class Manifest(_Strict):
    """What an artifact says of itself.

    Attributes:
        format: Always `torchcompress`.
        version: Of the format.
        architecture: How a fresh model is built, where that is known.
        plans: The plans that made the model, oldest first.
        program: The flat program of an int8 model, else None.
        input_shape: Shape of one input without its batch dimension, where known.
        measurements: What was measured of the model.
        aliases: Names of tied tensors, each with the name that is stored.
        tensors: The tensors, in the order in which they lie in the block.
    """

    format: str = FORMAT
    version: int = VERSION
    architecture: StoredArchitecture | None = None
    plans: list[dict[str, JsonValue]] = []
    program: dict[str, JsonValue] | None = None
    input_shape: list[int] | None = None
    measurements: dict[str, JsonValue] = {}
    aliases: dict[str, str] = {}
    tensors: list[StoredTensor] = []


def write_container(path: Path, manifest: Manifest, tensors: dict[str, Tensor]) -> None:
    """Writes an artifact whole or not at all.

    Args:
        path: The file to make or replace.
        manifest: Everything but the tensors.
        tensors: The tensors by name.

    Raises:
        ArtifactError: A dtype that cannot be stored, or a folder that cannot be written.
    """
    blocks, stored, offset = [], [], 0
    for name, tensor in tensors.items():
        encoding, data = encode(tensor)
        stored.append(
            StoredTensor(
                name=name,
                dtype=dtype_name(tensor),
                shape=list(tensor.shape),
                encoding=encoding,
                offset=offset,
                length=len(data),
                sha256=hashlib.sha256(data).hexdigest(),
            )
        )
        blocks.append(data)
        offset += len(data)
    text = manifest.model_copy(update={"tensors": stored}).model_dump_json()
    try:
        with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as file:
            file.writestr(_entry(MANIFEST), text, zipfile.ZIP_DEFLATED, 9)
            file.writestr(_entry(TENSORS), b"".join(blocks), zipfile.ZIP_STORED)
    except OSError as error:
        raise ArtifactError(
            f"cannot be written: {error.strerror}",
            where=str(path),
            hint="choose a folder that exists and that you may write to",
        ) from error


def _entry(name: str) -> zipfile.ZipInfo:
    """Returns an entry with a fixed date, so that equal models make equal files."""
    return zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))


def read_container(path: Path) -> tuple[Manifest, dict[str, Tensor]]:
    """Reads an artifact and checks every size and hash; nothing in it is ever executed.

    Args:
        path: The file.

    Raises:
        ArtifactError: The file is missing, truncated, altered or not an artifact.
    """
    if not path.is_file():
        raise ArtifactError("there is no such file", where=str(path))
    try:
        with zipfile.ZipFile(path) as file:
            return _read(file)
    except ArtifactError as error:
        raise ArtifactError(error.what, where=str(path), hint=error.hint) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ArtifactError(f"manifest: {where}: {first['msg']}", where=str(path)) from error
    except OSError as error:
        raise ArtifactError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except _MALFORMED as error:
        raise ArtifactError(
            f"is not a sound artifact: {error}",
            where=str(path),
            hint="it may be truncated, or no .tcz file at all; save the model again",
        ) from error


def _read(file: zipfile.ZipFile) -> tuple[Manifest, dict[str, Tensor]]:
    if sorted(file.namelist()) != sorted([MANIFEST, TENSORS]):
        raise ArtifactError(f"holds {file.namelist()[:5]}, not {MANIFEST} and {TENSORS}")
    if file.getinfo(MANIFEST).file_size > MANIFEST_LIMIT:
        raise ArtifactError(f"its manifest is larger than {MANIFEST_LIMIT:,} bytes")
    if file.getinfo(TENSORS).compress_type != zipfile.ZIP_STORED:
        raise ArtifactError(f"{TENSORS} is packed twice")
    described = json.loads(_bounded(file, MANIFEST))
    _check_version(described)
    manifest = Manifest.model_validate(described)
    block = memoryview(_bounded(file, TENSORS))
    tensors, end = {}, 0
    for stored in manifest.tensors:
        if stored.offset != end or stored.name in tensors:
            raise ArtifactError(f"tensor {stored.name!r} overlaps another one")
        end += stored.length
        tensors[stored.name] = _tensor(stored, bytes(block[stored.offset : end]))
    if end != len(block):
        raise ArtifactError(f"{TENSORS} holds {len(block)} bytes where {end} are declared")
    for name, source in manifest.aliases.items():
        if source not in tensors or name in tensors:
            raise ArtifactError(f"tensor {name!r} is tied to {source!r}, which is not there")
    return manifest, tensors


def _check_version(described: Any) -> None:
    if not isinstance(described, dict) or described.get("format") != FORMAT:
        raise ArtifactError("its manifest is not one of torchcompress")
    if described.get("version") not in READABLE:
        raise ArtifactError(
            f"has format version {described.get('version')}, this release reads "
            + " and ".join(map(str, READABLE)),
            hint="use the release of torchcompress that saved it, or save the model again",
        )


def _bounded(file: zipfile.ZipFile, name: str) -> bytes:
    """Returns an entry's bytes, never more than it declares."""
    size = file.getinfo(name).file_size
    with file.open(name) as stream:
        data = stream.read(size + 1)
    if len(data) != size:
        raise ArtifactError(f"{name} holds {len(data)} bytes where {size} are declared")
    return data


def _tensor(stored: StoredTensor, data: bytes) -> Tensor:
    if len(data) != stored.length or hashlib.sha256(data).hexdigest() != stored.sha256:
        raise ArtifactError(f"tensor {stored.name!r} is damaged: its checksum does not match")
    if stored.dtype not in DTYPES or stored.encoding not in ENCODINGS:
        kind = f"{stored.dtype} by {stored.encoding}"
        raise ArtifactError(f"tensor {stored.name!r} is stored as {kind}, which is not known")
    if any(size < 0 for size in stored.shape):
        raise ArtifactError(f"tensor {stored.name!r} has a negative size")
    return decode(stored.encoding, data, stored.dtype, tuple(stored.shape))

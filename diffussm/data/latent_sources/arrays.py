"""Arrays in files of latents: NumPy's, of at most `MOST` bytes, and never of Python objects."""

import functools
import io
import math
import zipfile
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffussm.data.npz_header import HEADER_LIMIT, Header, naming_damage, parse_header
from diffussm.data.sources.base import Broken, Entry, Source
from diffussm.errors import UserError

MOST = 1 << 26  # bytes of a file for one image; 4 x 64 x 64 in double precision, twice and mirrored, has 2^19
OBJECTS = "holds Python objects, as U-ViT writes them: a pickle, and loading one may run any program; none is loaded"
_VERSION_1 = b"\x93NUMPY\1\0"


def content(source: Source, entry: Entry, most: int = MOST) -> bytes:
    """Return the content of a file; UserError names one that is too large or cannot be read."""
    if entry.size > most:
        raise UserError(f"{source.naming(entry)}: has {entry.size:,} bytes, too many for what it should be")
    try:
        read = source.read(entry)
    except Broken as reason:
        raise UserError(f"{source.naming(entry)}: {reason}") from None
    assert isinstance(read, bytes)
    return read


def npy(content: bytes, what: str) -> NDArray[Any]:
    """Return the array of an .npy file; UserError, beginning with `what`, if it is damaged or holds Python objects."""
    header = _header(content, what)
    if header.dtype.hasobject:
        raise UserError(f"{what}: {OBJECTS}")
    expected = header.size + math.prod(header.shape) * header.dtype.itemsize
    if min(header.shape, default=0) < 0 or len(content) != expected:
        raise UserError(f"{what}: is damaged: it has {len(content):,} bytes, its header says {expected:,}")
    array = np.frombuffer(content, header.dtype, offset=header.size)
    return array.reshape(header.shape, order="F" if header.fortran else "C")


def npz(content: bytes, names: Iterable[str], what: str) -> dict[str, NDArray[Any]]:
    """Return those of the arrays `names` that an .npz has; UserError as of `npy`."""
    with naming_damage(what), zipfile.ZipFile(io.BytesIO(content)) as archive:
        if (size := sum(info.file_size for info in archive.infolist())) > MOST:
            raise UserError(f"{what}: would expand to {size:,} bytes, too many for what it should be")
        present = set(archive.namelist())
        return {name: npy(archive.read(f"{name}.npy"), f"{what}: {name}") for name in names if f"{name}.npy" in present}


def floats(array: NDArray[Any], what: str) -> NDArray[np.float32]:
    """Return the array as float32; UserError, beginning with `what`, if it is not of floating point."""
    if array.dtype.kind != "f":
        raise UserError(f"{what}: is {array.dtype}; latents are of floating point")
    with np.errstate(over="ignore"):  # what is infinite then is found
        return array.astype(np.float32)


def _header(content: bytes, what: str) -> Header:
    size = 10 + int.from_bytes(content[8:10], "little") if content.startswith(_VERSION_1) else HEADER_LIMIT
    header = _parsed(content[:size])
    return parse_header(content[:size], what) if header is None else header


@functools.lru_cache(maxsize=64)  # files of a set have few different headers
def _parsed(start: bytes) -> Header | None:
    try:
        return parse_header(start, "")
    except UserError:
        return None

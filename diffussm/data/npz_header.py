"""Opens .npz archives from any source and reads the headers of their arrays with NumPy's own parser.

Nothing is unpickled, and any problem is a UserError that names the file. NumPy is imported when a header is read.
"""

import errno
import io
import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from diffussm.errors import UserError

if TYPE_CHECKING:
    import numpy as np

HEADER_LIMIT = 10_000  # bytes of an .npy header
_BROKEN = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError, OverflowError)


class Header(NamedTuple):
    shape: tuple[int, ...]
    fortran: bool
    dtype: "np.dtype[Any]"
    size: int  # bytes before the array's data


@contextmanager
def naming_damage(what: str) -> Iterator[None]:
    """Turn any error that a missing or damaged file causes into a UserError that begins with `what`."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{what}: no such file") from None
    except (*_BROKEN, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # EINVAL: a seek before the start of the file
            raise
        raise UserError(f"{what}: is damaged or not an .npz file ({' '.join(str(error).split())})") from None


@contextmanager
def open_archive(path: Path) -> Iterator[IO[bytes]]:
    """Yield the file at `path`; raise UserError if it is missing, or turns out to be damaged while it is open."""
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: is not a regular file")
    with naming_damage(str(path)), path.open("rb") as file:
        yield file


def read_header(archive: zipfile.ZipFile, info: zipfile.ZipInfo, what: str) -> Header:
    """Return the header of member `info`; UserError, beginning with `what`, if it is damaged, holds Python objects or
    is not as long as its header says."""
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UserError(f"{what}: is compressed in a way that is not read; allowed: stored, deflated")
    with naming_damage(what), archive.open(info) as member:
        header = parse_header(member.read(HEADER_LIMIT), what)
    if header.dtype.hasobject:
        raise UserError(
            f"{what}: holds Python objects, which are not loaded from files; allowed: plain numbers or text"
        )
    length = header.size + math.prod(header.shape) * header.dtype.itemsize
    stored = info.compress_type == zipfile.ZIP_STORED
    if min(header.shape, default=0) < 0 or length != info.file_size or (stored and length != info.compress_size):
        shape = f"an array of shape {header.shape}, {length} bytes"
        raise UserError(f"{what}: is damaged ({info.file_size} bytes; its header says {shape})")
    return header


def parse_header(content: bytes, what: str) -> Header:
    """Return the header at the start of an .npy file's content; UserError, beginning with `what`, if it is damaged."""
    import numpy as np

    start = io.BytesIO(content)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        read = readers[np.lib.format.read_magic(start)]
        return Header(*read(start, max_header_size=HEADER_LIMIT), start.tell())
    except Exception:  # NumPy may raise any exception on a damaged header
        raise UserError(f"{what}: is damaged (its .npy header cannot be parsed)") from None

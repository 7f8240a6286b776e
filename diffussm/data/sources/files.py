"""Reading of whole files that a source consists of; any problem is a UserError that names the file."""

import contextlib
import gzip
import lzma
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from io import FileIO
from pathlib import Path
from typing import IO, cast

from diffussm.data.pixels.listing import times_digest
from diffussm.errors import UserError
from diffussm.store.reading import open_regular

_BLOCK = 1 << 20
DAMAGE = (
    tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, struct.error, gzip.BadGzipFile,
    ValueError, IndexError, OverflowError, RuntimeError, NotImplementedError,
)  # fmt: skip


def read_file(path: Path, most: int) -> bytes:
    """Return the content of a file of at most `most` bytes."""
    with _regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise UserError(f"{path}: has {size:,} bytes, too many for what it should be")
        return file.read()


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tuple[IO[bytes], int]]:
    """Yield a file, expanded if its name ends in .gz, and the size on disk."""
    with _regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if path.suffix == ".gz":
            with reading(path, "a gzip file"), gzip.GzipFile(fileobj=file) as expanded:
                yield cast(IO[bytes], expanded), size
        else:
            yield file, size


def read_up_to(file: IO[bytes], size: int) -> bytes:
    """Return the next `size` bytes, fewer if the file ends before; no more memory is taken than is read."""
    content = bytearray()
    while len(content) < size and (some := file.read(min(size - len(content), _BLOCK))):
        content += some
    return bytes(content)


def modified(paths: Iterable[Path]) -> str:
    """Return a digest of the names of files and when they were changed."""
    return times_digest((path.name, path.stat().st_mtime_ns) for path in paths)


def read_text(path: Path, most: int = 1 << 28) -> str:
    """Return the text of a file in UTF-8, with or without a mark of byte order."""
    try:
        text = read_file(path, most).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not text in UTF-8") from None
    if "\0" in text:
        raise UserError(f"{path}: is not text in UTF-8: it holds zero bytes, as UTF-16 does")
    return text


@contextlib.contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Turn errors about a damaged archive at `path`, which should be `what`, into a UserError."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except DAMAGE as error:
        raise UserError(f"{path}: is damaged or not {what} ({' '.join(str(error).split())})") from None


@contextlib.contextmanager
def _regular(path: Path) -> Iterator[FileIO]:
    try:
        with open_regular(path, lambda what: UserError(f"{path}: {what}")) as file:
            yield file
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None

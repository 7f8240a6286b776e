"""Atomic writing of files: each is complete or absent, even if the writer is killed or the disk is full. No locks.

After an error neither a temporary file stays nor a folder that was made for it, and the error names the file.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO

from diffussm.errors import UserError


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """Write the file atomically: under a temporary name, flushed to disk, then renamed. The last writer wins."""
    with temporary_beside(path) as temporary:
        _write(temporary, content)
        os.replace(temporary, path)


@contextlib.contextmanager
def written_atomically(path: Path) -> Iterator[FileIO]:
    """Yield an unbuffered file to be filled by `write_piece` and `overwrite_piece`; once all of it is on disk it takes
    the place of `path`. The last writer wins."""
    with temporary_beside(path) as temporary:
        with open(temporary, "wb", buffering=0) as file:
            yield file
            flush_to_disk(file)
        os.replace(temporary, path)


def write_piece(file: FileIO, piece: memoryview) -> None:
    """Write all of the piece at the end of the file. On Linux the disk begins with it at once, not once a tenth of the
    memory waits for it."""
    start, size = file.tell(), len(piece)
    while piece:
        piece = piece[file.write(piece) :]
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file.fileno(), start, size, os.POSIX_FADV_DONTNEED)


def overwrite_piece(file: FileIO, place: int, piece: bytes) -> None:
    """Replace bytes of the file that are written already."""
    os.pwrite(file.fileno(), piece, place)


def write_once(path: Path, content: bytes | memoryview) -> bool:
    """Write the file unless it exists, atomically; return whether it was written."""
    with temporary_beside(path) as temporary:
        _write(temporary, content)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        finally:
            _remove(temporary)
    return True


def overwrite(path: Path, content: bytes) -> None:
    """Write JSON over a file in place, for which a full disk has room: not shorter than before, by one call."""
    with open(path, "r+b", buffering=0) as file:
        file.write(content.ljust(os.fstat(file.fileno()).st_size))
        os.fsync(file.fileno())


@contextlib.contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """Yield the name of a temporary file in the folder of `path`, which is made if it does not exist.

    After an error the file is removed, and the folders that were made if they are empty. An OSError then names `path`.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")
    made: list[Path] = []
    try:
        with naming(path):
            made = _missing(path.parent)
            _make_folder(path.parent)
            yield temporary
    except BaseException:
        _remove(temporary)
        with contextlib.suppress(OSError):
            for folder in made:
                folder.rmdir()
        raise


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let any OSError name the file `path`: one that arises while a file is written names none, or a temporary one."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise


def flush_to_disk(file: BinaryIO | FileIO) -> None:
    """Flush what was written to the file, to the disk itself."""
    file.flush()
    os.fsync(file.fileno())


def to_json(content: Any) -> bytes:
    """Return the content as indented JSON; raise ValueError if a number is not finite."""
    return json.dumps(content, indent=1, allow_nan=False).encode()


def _write(path: Path, content: bytes | memoryview) -> None:
    with path.open("wb") as file:
        file.write(content)
        flush_to_disk(file)


def _make_folder(folder: Path) -> None:
    """Make the folder if it does not exist; raise UserError if something else is in its place."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{folder}: is to be a folder, but is something else; rename what is there") from None


def _missing(folder: Path) -> list[Path]:
    """Return the folders that do not exist, of this one and those above it, the innermost first."""
    missing = []
    for path in (folder, *folder.parents):
        if path.exists():
            break
        missing.append(path)
    return missing


def _remove(temporary: Path) -> None:
    """Remove the file; where the disk does not allow even that, the error that led here is the one to report."""
    with contextlib.suppress(OSError):
        temporary.unlink(missing_ok=True)

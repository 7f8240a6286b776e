"""The hash of a file's content, read once."""

import functools
import hashlib
from pathlib import Path

from diffussm.errors import UserError


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file; it is read once in a process, unless it is replaced or changed.

    Raises UserError if there is no file.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    return _file_sha256(path.absolute(), status.st_ino, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=1024)
def _file_sha256(path: Path, *_version: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

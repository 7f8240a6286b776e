"""Reading of files of weights and state, hashed beside reading."""

import hashlib
import json
import mmap
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from io import FileIO
from pathlib import Path

from diffussm.store.hashes import file_sha256
from diffussm.store.integrity import zip_comment
from diffussm.store.integrity.digest import BackgroundHash, place_of_digest, without_digest
from diffussm.store.integrity.safetensors_header import LENGTH_BYTES, MAX_HEADER, METADATA
from diffussm.store.integrity.stamp import DamagedFile, Stamp, read_stamp
from diffussm.store.reading import open_regular

CHUNK = 1 << 24
ZIP = b"PK\x03\x04"
TAIL = zip_comment.END_BYTES + zip_comment.MAX_COMMENT


class FileContent:
    """A file in memory, while its digest is still computed: `verified` waits for it."""

    def __init__(self, path: Path, content: memoryview, stamp: Stamp | None, digest: BackgroundHash):
        self.path, self.bytes, self.stamp = path, content, stamp
        self._digest = digest

    def verified(self) -> "Origin":
        """Return where the content comes from; raise DamagedFile if it has another digest than it states."""
        digest = self._digest.hexdigest()
        return _origin(self.path, self.stamp, digest, lambda: hashlib.sha256(self.bytes).hexdigest())


@dataclass(frozen=True)
class Origin:
    """What a file says about itself, once that is known to be true; `stamp` is None for files of earlier versions and
    of other programs, which cannot be verified."""

    stamp: Stamp | None
    _hash: Callable[[], str]

    @cached_property
    def sha256(self) -> str:
        """The SHA-256 of the whole file, as `sha256sum` prints it."""
        return self._hash()


def read_file(path: Path) -> FileContent:
    """Return the content of a safetensors file or of an archive of torch.save.

    Raises FileNotFoundError if there is no file, and DamagedFile for what is known before the content is hashed.
    """
    with open_regular(path, lambda what: DamagedFile(path, what)) as file:
        stamp, place, size = _begin(path, file)
        content, digest = memoryview(mmap.mmap(-1, size)), BackgroundHash()
        for begin in range(0, size, CHUNK):
            piece = content[begin : begin + CHUNK]
            _fill(piece, path, file)
            for part in without_digest(piece, begin, place):
                digest.update(part)
    return FileContent(path, content, stamp, digest)


def verify_file(path: Path) -> "Origin":
    """Return where such a file's content comes from, which is hashed and not kept in memory.

    Raises FileNotFoundError if there is no file, and DamagedFile if it has another digest than it states.
    """
    with open_regular(path, lambda what: DamagedFile(path, what)) as file:
        stamp, place, size = _begin(path, file)
        buffers, digest = [memoryview(bytearray(min(size, CHUNK))) for _ in range(2)], BackgroundHash()
        for begin in range(0, size, CHUNK):
            piece = buffers[0][: size - begin]
            _fill(piece, path, file)  # while the piece before is hashed
            digest.wait()
            for part in without_digest(piece, begin, place):
                digest.update(part)
            buffers.reverse()
        return _origin(path, stamp, digest.hexdigest(), lambda: file_sha256(path))


def _begin(path: Path, file: FileIO) -> tuple[Stamp | None, int | None, int]:
    """Return the file's stamp, the place of the digest in it, and its size."""
    size = os.fstat(file.fileno()).st_size
    if size == 0:
        raise DamagedFile(path, "it is empty")
    start, text = _stamp_text(path, file.fileno(), size)
    stamp = _stamp_in(path, text)
    if stamp is None and start > LENGTH_BYTES:
        raise DamagedFile(path, "the comment of the archive is not valid")
    place = place_of_digest(text) if stamp else None
    return stamp, None if place is None else start + place, size


def _origin(path: Path, stamp: Stamp | None, digest: str, hash_whole: Callable[[], str]) -> Origin:
    if stamp is None:
        return Origin(None, lambda: digest)
    if digest != stamp.sha256:
        raise DamagedFile(path, "its content does not have the SHA-256 that it states")
    return Origin(stamp, hash_whole)


def _stamp_text(path: Path, descriptor: int, size: int) -> tuple[int, bytes]:
    """Return the part of the file that may hold a stamp, JSON, and where it begins."""
    head = os.pread(descriptor, LENGTH_BYTES, 0)
    if head.startswith(ZIP):
        try:
            text = zip_comment.comment(os.pread(descriptor, TAIL, max(0, size - TAIL)))
        except ValueError as error:
            raise DamagedFile(path, str(error)) from None
        return (size - len(text), text) if text else (0, b"")
    length = int.from_bytes(head, "little")
    if len(head) < LENGTH_BYTES or not 2 <= length <= min(MAX_HEADER, size - LENGTH_BYTES):
        return 0, b""  # neither: whoever parses the content says so
    return LENGTH_BYTES, os.pread(descriptor, length, LENGTH_BYTES)


def _stamp_in(path: Path, text: bytes) -> Stamp | None:
    if not text:
        return None
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise DamagedFile(path, "its metadata is not valid JSON") from None
    metadata = content.get(METADATA, {}) if isinstance(content, dict) else None
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise DamagedFile(path, "its metadata are not texts")
    return read_stamp(path, metadata)


def _fill(piece: memoryview, path: Path, file: FileIO) -> None:
    """Fill the piece with the next bytes of the file; raise DamagedFile if there are not enough."""
    done = 0
    while done < len(piece):
        if not (count := file.readinto(piece[done:])):
            raise DamagedFile(path, "it became shorter while it was read")
        done += count

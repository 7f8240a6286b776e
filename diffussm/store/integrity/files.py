"""Reading of files of weights and state: once, and hashed beside reading."""

import hashlib
import json
import mmap
import os
from dataclasses import dataclass
from functools import cached_property
from io import FileIO
from pathlib import Path

from diffussm.store.integrity import zip_comment
from diffussm.store.integrity.digest import BackgroundHash, place_of_digest, without_digest
from diffussm.store.integrity.safetensors_header import LENGTH_BYTES, MAX_HEADER, METADATA
from diffussm.store.integrity.stamp import DamagedFile, Stamp, read_stamp
from diffussm.store.reading import open_regular

CHUNK = 1 << 24
ZIP = b"PK\x03\x04"
TAIL = zip_comment.END_BYTES + zip_comment.MAX_COMMENT


class Memory:
    """Memory of `size` bytes; where the system can do that, it is a file too, which others can map."""

    def __init__(self, size: int):
        self._descriptor = os.memfd_create("diffussm") if hasattr(os, "memfd_create") else -1
        if self._descriptor >= 0:
            os.ftruncate(self._descriptor, size)
        self.bytes = memoryview(mmap.mmap(self._descriptor, size))

    @property
    def path(self) -> str:
        """The path under which this process can open it; "" if there is none."""
        path = f"/proc/self/fd/{self._descriptor}"
        return path if self._descriptor >= 0 and os.path.exists(path) else ""

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)


class FileContent:
    """A file in memory, while its digest is still computed: `verified` waits for it."""

    def __init__(self, path: Path, memory: Memory, stamp: Stamp | None, digest: BackgroundHash):
        self.path, self.stamp = path, stamp
        self._memory, self._digest = memory, digest

    @property
    def bytes(self) -> memoryview:
        return self._memory.bytes

    @property
    def memory_path(self) -> str:
        """The path under which this process can map the content; "" if there is none."""
        return self._memory.path

    def verified(self) -> "Origin":
        """Return where the content comes from; raise DamagedFile if it has another digest than it states."""
        digest = self._digest.hexdigest()
        if self.stamp is None:
            return Origin(None, None, digest)
        if digest != self.stamp.sha256:
            raise DamagedFile(self.path, "its content does not have the SHA-256 that it states")
        return Origin(self.stamp, self.bytes, "")


@dataclass(frozen=True)
class Origin:
    """What a file says about itself, once that is known to be true; `stamp` is None for files of earlier versions and
    of other programs, which cannot be verified."""

    stamp: Stamp | None
    _content: memoryview | None
    _sha256: str

    @cached_property
    def sha256(self) -> str:
        """The SHA-256 of the whole file, as `sha256sum` prints it."""
        return self._sha256 if self._content is None else hashlib.sha256(self._content).hexdigest()


def read_file(path: Path) -> FileContent:
    """Return the content of a safetensors file or of an archive of torch.save.

    Raises FileNotFoundError if there is no file, and DamagedFile for what is known before the content is hashed.
    """
    with open_regular(path, lambda what: DamagedFile(path, what)) as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            raise DamagedFile(path, "it is empty")
        start, text = _stamp_text(path, file.fileno(), size)
        stamp = _stamp_in(path, text)
        if stamp is None and start > LENGTH_BYTES:
            raise DamagedFile(path, "the comment of the archive is not valid")
        place = place_of_digest(text) if stamp else None
        memory, digest = Memory(size), BackgroundHash()
        for begin in range(0, size, CHUNK):
            piece = memory.bytes[begin : begin + CHUNK]
            if not _fill(piece, file):
                raise DamagedFile(path, "it became shorter while it was read")
            for part in without_digest(piece, begin, None if place is None else start + place):
                digest.update(part)
    return FileContent(path, memory, stamp, digest)


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


def _fill(piece: memoryview, file: FileIO) -> bool:
    """Fill the piece with the next bytes of the file; return whether there were enough."""
    done = 0
    while done < len(piece):
        if not (count := file.readinto(piece[done:])):
            return False
        done += count
    return True

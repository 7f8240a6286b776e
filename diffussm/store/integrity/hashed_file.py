"""A file that is hashed while it is written, in order, and states its digest. No part of it is kept in memory."""

import io
from collections.abc import Callable
from io import FileIO
from typing import Any

from diffussm.store.integrity.digest import BackgroundHash, place_of_digest
from diffussm.store.writing import overwrite_piece, write_piece

PIECE = 1 << 24  # bytes that are written at once
SMALL = 1 << 18  # pieces below are gathered, up to so many bytes


class HashedFile(io.RawIOBase):
    """What is written goes on to `file`; `seal` fills in the digest of it all. A piece must stay as it is until the
    next one is written: it is hashed while the caller prepares that.

    `write` never raises: `torch.save` calls it from C++ code that would not survive it. After an error it does nothing,
    and `seal` raises the error.
    """

    def __init__(self, file: FileIO):
        super().__init__()
        self._file, self._digest, self._gathered = file, BackgroundHash(), bytearray()
        self._written = 0
        self._error: Exception | None = None

    def writable(self) -> bool:
        return True

    def write(self, piece: Any) -> int:
        if self._error is None:
            try:
                self._digest.wait()
                self._add(memoryview(piece))
            except Exception as error:
                self._error = error
                self._digest.wait()
        return len(piece)

    def change_end(self, change: Callable[[bytes], bytes]) -> None:
        """Replace the last bytes that were written, of which it depends on the pieces how many."""
        if self._error is None:
            self._gathered = bytearray(change(bytes(self._gathered)))

    def seal(self, place: int | None = None) -> str:
        """Complete the file; return its digest. The digits are at `place`, by default in the last bytes.

        Raises the first error that there was.
        """
        if self._error is not None:
            raise self._error
        if place is None:
            place_in_end = place_of_digest(bytes(self._gathered))
            assert place_in_end is not None
            place = self._written + place_in_end
        self._flush()
        digits = self._digest.hexdigest()
        overwrite_piece(self._file, place, digits.encode())
        return digits

    def _add(self, piece: memoryview) -> None:
        if len(self._gathered) + len(piece) > SMALL:
            self._flush()
        if len(piece) > SMALL:
            self._write_and_hash(piece)
        else:
            self._gathered += piece

    def _flush(self) -> None:
        self._write_and_hash(memoryview(bytes(self._gathered)))
        self._gathered.clear()

    def _write_and_hash(self, content: memoryview) -> None:
        self._digest.update(content)
        for start in range(0, len(content), PIECE):
            write_piece(self._file, content[start : start + PIECE])
        self._written += len(content)

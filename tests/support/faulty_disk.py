"""A disk that fails: the n-th write of the project's one writer, whole files and pieces, or all from the n-th on."""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path

import pytest

from diffussm.store import writing
from diffussm.store.integrity import hashed_file

ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ESTALE, errno.EIO)


class FaultyDisk:
    """Counts writes; the `fails_at`-th fails with `code` after half of its content; `for_good`, so do all after it."""

    def __init__(self, code: int, fails_at: int = 0, for_good: bool = False):
        self.code, self.fails_at, self.for_good = code, fails_at, for_good
        self.writes = 0
        self._write, self._write_piece = writing._write, hashed_file.write_piece

    def write(self, path: Path, content: bytes | memoryview) -> None:
        self._fail_if_due(lambda: path.write_bytes(content[: len(content) // 2]))
        self._write(path, content)

    def write_piece(self, file: FileIO, piece: memoryview) -> None:
        self._fail_if_due(lambda: self._write_piece(file, piece[: len(piece) // 2]))
        self._write_piece(file, piece)

    def _fail_if_due(self, write_half: Callable[[], object]) -> None:
        self.writes += 1
        if self.writes == self.fails_at or (self.for_good and self.writes > self.fails_at > 0):
            write_half()
            raise OSError(self.code, os.strerror(self.code))

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(writing, "_write", self.write)
            patch.setattr(hashed_file, "write_piece", self.write_piece)
            yield


def leftovers(folder: Path) -> list[Path]:
    """Return what an interrupted writer may leave: temporary files, and folders of nothing."""
    return [path for path in folder.rglob("*") if path.suffix == ".tmp" or (path.is_dir() and not any(path.iterdir()))]

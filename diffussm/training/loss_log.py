"""The loss log of an attempt: a line of JSON for each row."""

import contextlib
import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from diffussm.store.writing import naming


class LossLog:
    """Rows to append to the file `path`, as a context manager that saves those left at its end."""

    def __init__(self, path: Path):
        self._path = path
        self._lines: list[bytes] = []

    def add(self, row: dict[str, Any]) -> None:
        self._lines.append(json.dumps(row).encode() + b"\n")

    def save(self) -> None:
        """Append the rows, and flush them to the disk. After an error the file is as it was, or not there."""
        with naming(self._path), self._path.open("ab", buffering=0) as file:
            size, content = file.seek(0, os.SEEK_END), memoryview(b"".join(self._lines))
            try:
                while content:
                    content = content[file.write(content) :]
                os.fsync(file.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    file.truncate(size) if size else self._path.unlink()
                raise
        self._lines.clear()

    def __enter__(self) -> "LossLog":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with contextlib.suppress(OSError) if error else contextlib.nullcontext():
            if self._lines:
                self.save()

"""Atomic writing of files: each is complete or absent, even if the writer is killed. No locks."""

import json
import os
from pathlib import Path
from typing import Any


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """Write the file atomically: under a temporary name, flushed to disk, then renamed. The last writer wins."""
    temporary = _write_temporary(path, content)
    os.replace(temporary, path)


def write_once(path: Path, content: bytes | memoryview) -> bool:
    """Write the file unless it exists, atomically; return whether it was written."""
    temporary = _write_temporary(path, content)
    try:
        os.link(temporary, path)
        return True
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)


def _write_temporary(path: Path, content: bytes | memoryview) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def to_json(content: Any) -> bytes:
    """Return the content as indented JSON; raise ValueError if a number is not finite."""
    return json.dumps(content, indent=1, allow_nan=False).encode()

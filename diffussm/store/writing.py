"""Writing of files that are whole or absent, however the writer ends. No locks."""

import json
import os
from pathlib import Path
from typing import Any


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Write under a temporary name, flush to disk, rename: the file is whole or absent; the last writer wins."""
    temporary = _write_temporary(path, content)
    os.replace(temporary, path)


def link_first(path: Path, content: bytes | memoryview) -> bool:
    """Like `write_whole`, but the first writer wins; False if the file was already there."""
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
    """Return the content as indented JSON; raise ValueError where a number is not finite."""
    return json.dumps(content, indent=1, allow_nan=False).encode()

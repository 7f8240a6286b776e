"""A cache of results that are expensive to compute and small to store, in $DIFFUSSM_CACHE or the user's cache folder.

Files are written atomically, under the digest of everything that determines their content, so any number of processes
may share the folder. If the folder is not writable, nothing is cached.
"""

import contextlib
import io
import json
import os
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffussm.config import digest
from diffussm.errors import UserError
from diffussm.host.machine import user_cache
from diffussm.store.integrity.digest import ZEROS, is_intact, seal
from diffussm.store.writing import to_json, write_atomically

VERSION = 2
_BROKEN = (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


def folder() -> Path:
    configured = os.environ.get("DIFFUSSM_CACHE")
    return Path(configured).expanduser() if configured else user_cache()


def cached_arrays(key: Mapping[str, Any], compute: Callable[[], dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """Return the arrays stored under `key`; compute and store them if there are none or the file is damaged."""
    path = _path(key, "npz")
    with contextlib.suppress(*_BROKEN), path.open("rb") as opened, np.load(opened) as stored:
        if stored.zip.testzip() is None:  # NumPy compares no checksum of a member that it does not read to its end
            return dict(stored)
    made = compute()
    file = io.BytesIO()
    np.savez(file, **made)  # type: ignore[arg-type]
    _write(path, file.getbuffer())
    return made


def cached_number(key: Mapping[str, Any], compute: Callable[[], float]) -> float:
    """Return the number stored under `key`; compute and store it if there is none or the file is damaged."""
    path = _path(key, "json")
    with contextlib.suppress(OSError, ValueError):
        content = path.read_bytes()
        stored = json.loads(content)
        if is_intact(content) and isinstance(stored, dict) and isinstance(stored.get("number"), float):
            return stored["number"]
    made = compute()
    _write(path, seal(to_json({"number": made, "sha256": ZEROS})))
    return made


def _path(key: Mapping[str, Any], suffix: str) -> Path:
    return folder() / f"{digest({'version': VERSION, **key})}.{suffix}"


def _write(path: Path, content: Any) -> None:
    with contextlib.suppress(OSError, UserError):
        write_atomically(path, content)

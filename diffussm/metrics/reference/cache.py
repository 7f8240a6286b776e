"""Results that are dear to compute and small to keep, by the content of what they were made from.

In $DIFFUSSM_CACHE, or below the user's cache folder. Files appear whole, under the digest of all that decides their
content, so any number of processes may share the folder; one that cannot be written to is done without.
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
from diffussm.host.machine import user_cache
from diffussm.store.writing import to_json, write_whole

VERSION = 2
_BROKEN = (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


def folder() -> Path:
    asked = os.environ.get("DIFFUSSM_CACHE")
    return Path(asked).expanduser() if asked else user_cache()


def arrays(content: Mapping[str, Any], make: Callable[[], dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """The arrays made from `content`; a damaged file is made anew."""
    path = _path(content, "npz")
    with contextlib.suppress(*_BROKEN), path.open("rb") as opened, np.load(opened) as stored:
        return dict(stored)
    made = make()
    file = io.BytesIO()
    np.savez(file, **made)  # type: ignore[arg-type]
    _write(path, file.getbuffer())
    return made


def number(content: Mapping[str, Any], make: Callable[[], float]) -> float:
    """The number made from `content`; a damaged file is made anew."""
    path = _path(content, "json")
    with contextlib.suppress(OSError, ValueError):
        stored = json.loads(path.read_bytes())
        if isinstance(stored, dict) and isinstance(stored.get("number"), float):
            return stored["number"]
    made = make()
    _write(path, to_json({"number": made}))  # in braces, which a part of the file lacks
    return made


def _path(content: Mapping[str, Any], suffix: str) -> Path:
    return folder() / f"{digest({'version': VERSION, **content})}.{suffix}"


def _write(path: Path, content: Any) -> None:
    with contextlib.suppress(OSError):
        write_whole(path, content)

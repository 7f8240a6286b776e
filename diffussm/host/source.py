"""The identity of the running code: a digest of its files and its commit. No torch."""

import contextlib
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from diffussm.host.checkout import Checkout, read_checkout

ROOT = Path(__file__).parents[2]
PACKAGES = ("diffussm", "ablations")  # what a worker runs
NOT_CODE = ("ablations/grids/", "ablations/grid.schema.json")  # a run does not depend on grids
SUFFIXES = (".py", ".toml", ".json", ".csv", ".safetensors")
ORIGIN = "origin.json"  # in a snapshot of the code: the identity of what was copied
CHANGES = "changes.diff"  # in a snapshot of the code: what it had on top of its commit


def files(root: Path) -> dict[str, bytes]:
    """Return relative path -> content of all files of the code below `root`."""
    paths = sorted(path for package in PACKAGES for path in (root / package).rglob("*"))
    named = {path.relative_to(root).as_posix(): path for path in paths}
    return {name: path.read_bytes() for name, path in named.items() if is_code(name) and path.is_file()}


def is_code(path: str) -> bool:
    """Return whether a file belongs to the code, by its path relative to the root."""
    in_package = path.startswith(tuple(f"{package}/" for package in PACKAGES)) and not path.startswith(NOT_CODE)
    return in_package and PurePosixPath(path).suffix.lower() in SUFFIXES


def digest(content: Mapping[str, bytes]) -> str:
    """Return a digest of all paths and contents, twelve hexadecimal digits."""
    combined = hashlib.sha256()
    for path, data in sorted(content.items()):
        combined.update(f"{path}\0{len(data)}\0".encode())
        combined.update(data)
    return combined.hexdigest()[:12]


@cache
def origin() -> dict[str, Any]:
    """Return the identity of the running code: its digest (`code`), `commit` and `dirty` (None outside a checkout)."""
    return identify(ROOT)


def identify(root: Path) -> dict[str, Any]:
    """Return the identity of the code at `root`. That of a snapshot is stored with it, and holds if its files have the
    stored digest."""
    if (root / ORIGIN).is_file():
        with contextlib.suppress(ValueError, KeyError, TypeError):
            stored: dict[str, Any] = json.loads((root / ORIGIN).read_text())
            if digest(snapshot_content(root)) == stored["code"]:
                return stored
    return {"code": digest(files(root)), **commit_of(checkout(root))}


def snapshot_content(copy: Path) -> dict[str, bytes]:
    """Return relative path -> content of all files that were copied to a snapshot."""
    paths = (path for path in copy.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    named = {path.relative_to(copy).as_posix(): path for path in paths}
    return {name: path.read_bytes() for name, path in named.items() if name not in (ORIGIN, CHANGES)}


def checkout(root: Path) -> Checkout:
    """Return the git checkout that the code at `root` lies in."""
    return read_checkout(root, files(root), is_code)


def commit_of(found: Checkout) -> dict[str, Any]:
    """Return the fields `commit` and `dirty` of an identity."""
    return {"commit": found.commit, "dirty": found.dirty}

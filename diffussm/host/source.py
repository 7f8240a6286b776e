"""The identity of the running code: a digest of its files and its commit. No torch."""

import hashlib
import json
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PACKAGES = ("diffussm", "ablations")  # what a worker runs
NOT_CODE = ("ablations/grids/", "ablations/grid.schema.json")  # a run does not depend on grids
SUFFIXES = (".py", ".toml", ".json", ".csv", ".safetensors")
ORIGIN = "origin.json"  # in a snapshot of the code: the identity of what was copied


def files(root: Path) -> dict[str, bytes]:
    """Return relative path -> content of all files of the code below `root`."""
    paths = sorted(path for package in PACKAGES for path in (root / package).rglob("*") if path.suffix in SUFFIXES)
    named = {path.relative_to(root).as_posix(): path for path in paths}
    return {name: path.read_bytes() for name, path in named.items() if not name.startswith(NOT_CODE)}


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
    stored = ROOT / ORIGIN
    if stored.exists():
        return json.loads(stored.read_text())
    return {"code": digest(files(ROOT)), **commit()}


def commit() -> dict[str, Any]:
    """Return the commit of this checkout and whether tracked files are modified; both None outside a checkout."""
    status = git("status", "--porcelain", "--untracked-files=no")
    head = git("rev-parse", "HEAD")
    return {"commit": head and head.strip(), "dirty": None if status is None else bool(status.strip())}


def git(*arguments: str) -> str | None:
    """Return the output of a git command in this checkout; None without git or outside a checkout."""
    try:
        completed = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=10, errors="replace"
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return completed.stdout

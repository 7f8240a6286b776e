"""Which code runs: a digest of its files, and the commit that it came from. No torch."""

import hashlib
import json
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
ROOMS = ("diffussm", "ablations")  # what a worker runs
NOT_CODE = ("ablations/grids/", "ablations/grid.schema.json")  # a run knows nothing of grids
KINDS = (".py", ".toml", ".json", ".csv", ".safetensors")
ORIGIN = "origin.json"  # in a copy of the code: where it was copied from


def files(root: Path) -> dict[str, bytes]:
    """Every file of the code below `root`: its path there, and its content."""
    paths = sorted(path for room in ROOMS for path in (root / room).rglob("*") if path.suffix in KINDS)
    named = {path.relative_to(root).as_posix(): path for path in paths}
    return {name: path.read_bytes() for name, path in named.items() if not name.startswith(NOT_CODE)}


def digest(content: Mapping[str, bytes]) -> str:
    """Twelve hexadecimal digits that change with any path or content."""
    whole = hashlib.sha256()
    for path, data in sorted(content.items()):
        whole.update(f"{path}\0{len(data)}\0".encode())
        whole.update(data)
    return whole.hexdigest()[:12]


@cache
def origin() -> dict[str, Any]:
    """Of the code that runs here: `code` its digest, `commit` and `dirty` (None outside a checkout)."""
    copied = ROOT / ORIGIN
    if copied.exists():
        return json.loads(copied.read_text())
    return {"code": digest(files(ROOT)), **commit()}


def commit() -> dict[str, Any]:
    status = git("status", "--porcelain", "--untracked-files=no")
    head = git("rev-parse", "HEAD")
    return {"commit": head and head.strip(), "dirty": None if status is None else bool(status.strip())}


def git(*arguments: str) -> str | None:
    """What git says of this checkout; None where there is no git or no checkout."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=10, errors="replace"
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout

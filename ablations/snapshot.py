"""A read-only copy of the code for one launch, so that editing the source during it changes nothing.

`runs/code/<digest>/` holds the packages that a worker runs, mixers from outside, `origin.json` (digest, commit, dirty
flag) and `changes.diff` (what the checkout had on top of its commit). Equal code is copied once.
"""

import importlib.util
import os
import shutil
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

from diffussm import source
from diffussm.workdir import to_json

FOLDER = "code"


def take(runs: Path, mixers: Iterable[str]) -> Path:
    """The copy's folder; `mixers` are those from outside (`package.module:Class`) that the launch uses."""
    content = source.files(source.ROOT)
    for name in sorted({mixer.partition(":")[0].partition(".")[0] for mixer in mixers}):
        content |= _outside(name)
    digest = source.digest(content)
    copy = (runs / FOLDER / digest).absolute()
    if not copy.exists():
        origin = {"code": digest, **source.commit()}
        extra = {source.ORIGIN: to_json(origin), "changes.diff": (source.git("diff", "HEAD") or "").encode()}
        _write(copy, content | extra)
    return copy


def _write(copy: Path, content: dict[str, bytes]) -> None:
    temporary = copy.with_name(f".{copy.name}.{os.urandom(4).hex()}.tmp")
    for name, data in content.items():
        path = temporary / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    try:
        temporary.rename(copy)
    except OSError:  # another launch made it meanwhile
        shutil.rmtree(temporary)
        return
    for path in (*copy.rglob("*"), copy):
        path.chmod(path.stat().st_mode & ~0o222)


def remove(copy: Path) -> None:
    """Delete a copy, read-only as it is."""
    for path in (copy, *copy.rglob("*")):
        path.chmod(path.stat().st_mode | 0o200)
    shutil.rmtree(copy)


def _outside(name: str) -> dict[str, bytes]:
    """The files of a top-level module or package that is neither installed nor a part of Python."""
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    spec = importlib.util.find_spec(name)
    installed = [Path(sysconfig.get_path(key)) for key in ("purelib", "platlib", "stdlib")]
    if spec is None or spec.origin is None or any(Path(spec.origin).is_relative_to(part) for part in installed):
        return {}
    file = Path(spec.origin)
    if not spec.submodule_search_locations:
        return {file.name: file.read_bytes()}
    paths = (path for path in sorted(file.parent.rglob("*")) if path.is_file() and "__pycache__" not in path.parts)
    return {f"{name}/{path.relative_to(file.parent).as_posix()}": path.read_bytes() for path in paths}

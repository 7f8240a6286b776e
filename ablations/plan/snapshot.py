"""A copy of the code for one launch, of read-only files, so that editing the source during it changes nothing.

`runs/code/<digest>/` holds the packages that a worker runs, external mixers, `origin.json` (digest, commit, dirty
flag) and `changes.diff` (how its files differ from those of the commit). Equal code is copied once. A usage
marker, `<digest>.<pid>.<random>.json`, means that a launch uses the copy.
"""

import contextlib
import importlib
import os
import re
import shutil
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

from diffussm.errors import UserError
from diffussm.host import source
from diffussm.host.external_code import is_own, search_working_directory
from diffussm.store.owner import Process, this_process
from diffussm.store.reading import read_model
from diffussm.store.writing import naming, to_json, write_atomically

FOLDER = "code"


@contextlib.contextmanager
def code_snapshot(runs: Path, mixers: Iterable[str]) -> Iterator[Path]:
    """Copy the code, mark the copy as used while the context lasts, and yield its folder. `mixers` are the external
    mixers (`package.module:Class`) that the launch uses."""
    content = _content(mixers)
    digest = source.digest(content)
    copy = (runs / FOLDER / digest).absolute()
    usage_marker = copy.with_name(f"{digest}.{os.getpid()}.{os.urandom(4).hex()}.json")
    write_atomically(usage_marker, to_json(this_process().model_dump(by_alias=True)))
    try:
        if not copy.exists():
            checkout = source.checkout(source.ROOT)
            origin = {"code": digest, **source.commit_of(checkout)}
            extra = {source.ORIGIN: to_json(origin), source.CHANGES: checkout.changes}
            _write(copy, content | extra)
        yield copy
    finally:
        usage_marker.unlink(missing_ok=True)


def snapshot_path(runs: Path, mixers: Iterable[str]) -> Path:
    """Return the folder of the copy, whether it exists yet or not."""
    return (runs / FOLDER / source.digest(_content(mixers))).absolute()


def unused(runs: Path, in_use: Collection[str], on_damage: Callable[[str], None]) -> list[Path]:
    """Return the copies that no launch uses, complete or half-made, except those with the digests `in_use`. A launch on
    another machine counts as alive as long as its marker exists, and so does one whose marker is damaged: `on_damage`
    is called with the error."""
    copies = [path for path in sorted((runs / FOLDER).glob("*")) if _digest_of(path) not in (None, *in_use)]
    return [copy for copy in copies if not any(_is_in_use(marker, on_damage) for marker in _usage_markers(copy))]


def _digest_of(path: Path) -> str | None:
    """Return the digest that the name of a copy, complete or half-made, states; None if it is no copy."""
    match = re.fullmatch(r"([0-9a-f]{12})|\.([0-9a-f]{12})\.[0-9a-f]{8}\.tmp", path.name)
    return (match[1] or match[2]) if match and path.is_dir() and not path.is_symlink() else None


def _usage_markers(copy: Path) -> Iterator[Path]:
    return copy.parent.glob(f"{_digest_of(copy)}.*.json")


def _content(mixers: Iterable[str]) -> dict[str, bytes]:
    """Return the files of the code and of external modules: path in the copy -> content."""
    content = source.files(source.ROOT)
    for module in sorted({mixer.partition(":")[0] for mixer in mixers}):
        content |= _external_files(module)
    return content


def _is_in_use(marker: Path, on_damage: Callable[[str], None]) -> bool:
    try:
        return not read_model(marker, Process).is_gone
    except FileNotFoundError:
        return False
    except UserError as damage:
        on_damage(str(damage))
        return True


def _write(copy: Path, content: dict[str, bytes]) -> None:
    temporary = copy.with_name(f".{copy.name}.{os.urandom(4).hex()}.tmp")
    try:
        for name, data in content.items():
            path = temporary / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with naming(copy / name):
                path.write_bytes(data)
            path.chmod(path.stat().st_mode & ~0o222)  # of files alone: their owner may delete them
        temporary.rename(copy)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if not (isinstance(error, OSError) and copy.exists()):  # which another launch has made meanwhile
            raise


def remove(copy: Path) -> None:
    """Delete a copy, although versions of before made its folders read-only."""
    for path in (copy, *copy.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | 0o200)
    shutil.rmtree(copy)


def _external_files(module: str) -> dict[str, bytes]:
    """Return the files of an external module and of the modules that it imports, except those that are installed or
    part of Python: all files of packages, and the loaded modules of others."""
    search_working_directory()
    importlib.import_module(module)
    out: dict[str, bytes] = {}
    for name, loaded in sorted(sys.modules.items()):
        file = getattr(loaded, "__file__", None)
        if file and not name.startswith("__") and _is_module(Path(file)) and is_own(Path(file)):
            path = Path(name.replace(".", "/"))
            if Path(file).stem != "__init__":
                out[f"{path}.py"] = Path(file).read_bytes()
                continue
            inside = (
                part for part in Path(file).parent.rglob("*") if part.is_file() and "__pycache__" not in part.parts
            )
            out |= {(path / part.relative_to(Path(file).parent)).as_posix(): part.read_bytes() for part in inside}
    return out


def _is_module(file: Path) -> bool:
    return (
        file.suffix == ".py" and file.is_absolute() and file.is_file()
    )  # torch sets __file__ to files that do not exist

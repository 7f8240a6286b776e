"""Staging: a prepared data set is copied to a faster disk, that of the node, before a training reads it.

The processes of a node share the work: each copies files that no other is at. A file is locked while it is copied,
verified on the way, and renamed once it is whole, so that whoever is killed leaves nothing that others wait for or
mistake for a file. What is there already is not copied again.
"""

import contextlib
import errno
import fcntl
import hashlib
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from diffussm.config import DataConfig, is_external
from diffussm.data.catalogue import CATALOGUE
from diffussm.data.prepared.manifest import MANIFEST, Manifest, StoredFile, read_manifest, reading
from diffussm.errors import UserError
from diffussm.tables import format_count

VARIABLE = "DIFFUSSM_STAGE"  # set by --stage, for all processes of a launch
_CHUNK = 4 << 20
_WAIT_SECONDS = 0.1  # between looks at what other processes copy


class StageError(UserError):
    """Nothing can be copied to the stage of this machine; on another one, or with another stage, it may."""


def set_stage(given: str, data: Iterable[DataConfig], elsewhere: bool = False) -> None:
    """Let trainings of this process, and of those that it starts, read copies in the folder `given` (`--stage`).

    Raises UserError if none of the data sets is a prepared one, and unless they train `elsewhere`, if the folder has
    a variable that is not set.
    """
    if not given:
        raise UserError("--stage: is empty; give a folder, such as '$SLURM_TMPDIR' in quotes, or leave it out")
    names = {section.name for section in data}
    if all(name in CATALOGUE or is_external(name) for name in names):
        raise UserError(f"--stage {given}: not used: {', '.join(sorted(names))}: only prepared data sets are copied")
    os.environ[VARIABLE] = given if given.startswith(("$", "~")) else str(Path(given).absolute())
    if not elsewhere:
        stage_folder()


def stage_folder() -> Path | None:
    """Return the folder to which training data are copied, with its variables expanded; None if none is set."""
    given = os.environ.get(VARIABLE, "")
    if not given:
        return None
    folder = os.path.expanduser(os.path.expandvars(given))
    if "$" in folder or not folder:
        what = "not set here" if folder else "empty here"
        raise StageError(f"--stage {given}: the environment variable is {what}; set it, or give another folder")
    return Path(folder).absolute()


def staged(folder: Path, stage: Path, check_stop: Callable[[], object] = lambda: None) -> Path:
    """Return the copy of a prepared data set below `stage`, after copying what is missing of it.

    `check_stop` is called often, and may raise. A damaged or unreadable file of the data set and a full disk are
    UserErrors.
    """
    manifest = read_manifest(folder)
    if folder.resolve() in (stage.resolve(), *stage.resolve().parents):
        raise StageError(f"--stage: {stage}: lies in the data set {folder}; use another folder")
    content = (folder / MANIFEST).read_bytes()
    copy = stage / f"{manifest.digest[:16]}-{hashlib.sha256(content).hexdigest()[:8]}"
    with _of_stage(copy, manifest):
        copy.mkdir(parents=True, exist_ok=True)
    missing = [file for file in _files(manifest, content) if not _is_there(copy, folder, file)]
    if missing:
        print(f"{folder}: is copied to {copy}", file=sys.stderr, flush=True)
    while missing:
        check_stop()
        others = [file for file in missing if not _copied(folder, copy, file, manifest, check_stop)]
        if len(others) == len(missing):
            time.sleep(_WAIT_SECONDS)
        missing = [file for file in others if not _is_there(copy, folder, file)]
    return copy


def _files(manifest: Manifest, content: bytes) -> list[StoredFile]:
    """Return the files of the data set, its manifest last."""
    shards = [file for shard in manifest.shards for file in shard.arrays.values()]
    last = StoredFile(file=MANIFEST, sha256=hashlib.sha256(content).hexdigest())
    lists = [manifest.sources, *([manifest.broken] if manifest.broken else [])]
    return [manifest.labels, manifest.image_sha256, *lists, *shards, last]


def _is_there(copy: Path, folder: Path, file: StoredFile) -> bool:
    """Return whether a file has been copied. One of another size is what a failure of the node left."""
    try:
        size = (copy / file.file).stat().st_size
    except FileNotFoundError:
        return False
    with reading(folder / file.file):
        return size == (folder / file.file).stat().st_size


def _copied(folder: Path, copy: Path, file: StoredFile, manifest: Manifest, check_stop: Callable[[], object]) -> bool:
    """Copy the file unless another process is at it; return whether it is there."""
    partial = copy / f".{file.file}.partial"
    with _of_stage(copy, manifest), open(partial, "ab") as out:
        if not _lock(out, partial):
            return False
        try:
            if _is_there(copy, folder, file):  # copied between the look at it and the lock
                partial.unlink()
                return True
            _write(out, folder / file.file, file.sha256, check_stop)
        except BaseException:
            partial.unlink()
            raise
        partial.rename(copy / file.file)
    return True


def _lock(out: BinaryIO, partial: Path) -> bool:
    """Lock the open file until it is closed; return False if another process has it, or has renamed or deleted it."""
    with contextlib.suppress(BlockingIOError, FileNotFoundError):
        fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(out.fileno()), partial.stat())
    return False


def _write(out: BinaryIO, source: Path, sha256: str, check_stop: Callable[[], object]) -> None:
    """Write the content of `source` over that of the open file; UserError if it has another SHA-256."""
    out.truncate(0)
    digest = hashlib.sha256()
    for chunk in _chunks(source):
        check_stop()
        digest.update(chunk)
        out.write(chunk)
    out.flush()
    if digest.hexdigest() != sha256:
        raise UserError(f"{source}: is damaged; {Manifest.repair}")


def _chunks(source: Path) -> Iterator[bytes]:
    with reading(source), open(source, "rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            yield chunk


@contextlib.contextmanager
def _of_stage(copy: Path, manifest: Manifest) -> Iterator[None]:
    """Turn an error of the file system into a UserError that names the copy."""
    try:
        yield
    except OSError as error:
        what = f"cannot be written: {error.strerror}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            size = manifest.count * math.prod(manifest.item_shape) * int(manifest.dtype[-1])
            what = f"no room: the data set takes {format_count(size)}B"
        raise StageError(f"--stage: {copy}: {what}; use another folder, or train without --stage") from None

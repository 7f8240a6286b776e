"""Locks of GPUs, by which launches on one machine keep off each other's: files that the kernel unlocks when the last
process that holds them ends, however it ends."""

import fcntl
import os
import re
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from diffussm.host.machine import gpu_number

Locks = list[IO[bytes]]


def lock_folder() -> Path:
    """Return the folder of this user's lock files on this machine."""
    return Path(tempfile.gettempdir()) / f"diffussm-gpus-{os.getuid()}"


def lock_gpus(gpus: Iterable[str], shared: bool) -> Locks | None:
    """Return locks of these GPUs, open files that are to be closed or inherited; None if another process has one.

    Processes that share a GPU all have a `shared` lock.
    """
    folder, how = lock_folder(), fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    folder.mkdir(mode=0o700, exist_ok=True)
    with ExitStack() as opened:
        locks: Locks = []
        for gpu in gpus:
            file = opened.enter_context((folder / re.sub(r"[^\w-]", "_", gpu_number(gpu))).open("ab"))
            try:
                fcntl.flock(file, how | fcntl.LOCK_NB)
            except BlockingIOError:
                return None
            locks.append(file)
        opened.pop_all()
    return locks


def unlock(locks: Locks) -> None:
    """Close this process' copies of locks."""
    for file in locks:
        file.close()

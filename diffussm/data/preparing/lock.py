"""The lock of a data set that is being prepared: one process at a time works at it."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

from diffussm.errors import UserError

LOCK = "lock"  # the file's name
_WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)  # file systems that have none


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make the folder, if it is not there, and hold its lock; UserError if another process holds it.

    However this process ends, it does not hold it any longer. A folder that is then empty is deleted, and so are those
    above it that were made for it.
    """
    made = [above for above in folder.parents if not above.exists()]
    with _opened(folder) as file:
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # another process has taken it since, or the disk fails
                if os.listdir(folder) == [LOCK]:
                    Path(file.name).unlink()
                    for path in (folder, *made):
                        path.rmdir()


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[FileIO]:
    """Yield the file, locked."""
    path = folder / LOCK
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError), open(path, "ab", buffering=0) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"{folder}: another process prepares this data set; wait for it, or choose another name"
                ) from None
            except OSError as error:
                if error.errno not in _WITHOUT_LOCKS:
                    raise
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):  # not deleted by the one that held it
                yield file
                return

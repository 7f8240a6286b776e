"""Whether files can be written at a place."""

import errno
import os
from pathlib import Path

from diffussm.errors import one_line


def disk_problem(path: Path) -> str:
    """Return why no file can be written at `path`, whether it exists or not: its disk is full, read-only or
    unavailable; "" if one can."""
    try:
        folder = next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())
        disk = os.statvfs(folder)
    except OSError as error:
        return one_line(error)
    if disk.f_flag & os.ST_RDONLY:
        return f"{folder}: {os.strerror(errno.EROFS)}"
    if not disk.f_bavail or (disk.f_files and not disk.f_favail):
        return f"{folder}: {os.strerror(errno.ENOSPC)}"
    return ""

"""Damaged files are renamed, never deleted."""

import os
from pathlib import Path

SUFFIX = ".damaged"


def set_aside(path: Path) -> Path:
    """Rename a damaged file, or whatever is in its place, to `<name>.damaged` or `<name>.damaged-<n>`; return the new
    path."""
    number, target = 1, path.with_name(path.name + SUFFIX)
    while os.path.lexists(target):
        number += 1
        target = path.with_name(f"{path.name}{SUFFIX}-{number}")
    os.rename(path, target)
    return target


def was_set_aside(path: Path) -> bool:
    """Return whether a damaged file of that path was ever set aside."""
    return os.path.lexists(path.with_name(path.name + SUFFIX))

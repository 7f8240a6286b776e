"""The images of a folder or an archive, and what was left out of it, with the reasons."""

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from diffussm.errors import printable

SHOWN = 8  # suffixes that a summary names
_SYSTEM_FOLDERS = ("__MACOSX",)


class Listing:
    """Files that are taken as images by their suffixes, whose case does not matter, and counts of the others."""

    def __init__(self, suffixes: tuple[str, ...]):
        self.suffixes = suffixes
        self.found: list[tuple[str, int]] = []  # relative name and size in bytes
        self._times: list[tuple[str, int]] = []  # relative name and when the file was changed, in ns
        self._hidden: Counter[str] = Counter()
        self._others: Counter[str] = Counter()

    @property
    def files(self) -> list[str]:
        return [name for name, _ in self.found]

    def takes(self, name: str, in_hidden_folder: bool = False) -> bool:
        """Return whether a file of this name is an image to take; count why not."""
        suffix = os.path.splitext(name)[1].lower()
        hidden = name.startswith(".")
        if suffix not in self.suffixes:
            if not (hidden or in_hidden_folder):
                self._others[suffix or "none"] += 1
            return False
        if in_hidden_folder or hidden:
            self._hidden["in hidden folders" if in_hidden_folder else "hidden"] += 1
            return False
        return True

    def add(self, folder: Path, name: str, relative: str, in_hidden_folder: bool = False) -> None:
        """Take the file `name` of a folder as `relative`, or count why it is left out."""
        if not self.takes(name, in_hidden_folder):
            return
        try:
            status = os.stat(os.path.join(folder, name))
        except OSError:  # whoever reads it will say why
            self.found.append((relative, 0))
            return
        if stat.S_ISREG(status.st_mode):
            self.found.append((relative, status.st_size))
            self._times.append((relative, status.st_mtime_ns))
        else:
            self._hidden["no regular files"] += 1

    @property
    def modified(self) -> str:
        """A digest of when the files were changed."""
        return times_digest(self._times)

    @property
    def skipped(self) -> str:
        """What was left out, by reason; "" if nothing was."""
        parts = [f"{count} {reason}" for reason, count in sorted(self._hidden.items())]
        if self._others:
            parts.append(f"{self._others.total()} with other suffixes ({_named(self._others)})")
        return ", ".join(parts)

    @property
    def counts(self) -> dict[str, int]:
        """The number of files that were left out, by reason."""
        others = {f"with other suffixes ({_named(self._others)})": self._others.total()} if self._others else {}
        return dict(sorted(self._hidden.items())) | others

    def __str__(self) -> str:
        taken = f"{len(self.found):,} image{'s' * (len(self.found) != 1)} taken"
        return f"{taken}; left out: {self.skipped or 'nothing'}"


def times_digest(times: Iterable[tuple[str, int]]) -> str:
    """Return the SHA-256 of the names of files and when they were changed, whatever their order."""
    digest = hashlib.sha256()
    for time in sorted(times):
        digest.update(repr(time).encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()


def is_hidden_folder(name: str) -> bool:
    """Return whether a folder of this name is hidden, or made by a system for itself."""
    return name.startswith(".") or name in _SYSTEM_FOLDERS


def _named(suffixes: Iterable[str]) -> str:
    names = sorted(map(printable, suffixes))
    return ", ".join([*names[:SHOWN], *["..."] * (len(names) > SHOWN)])

"""The images of a folder, and what was left out of it, with the reasons."""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

SHOWN = 8  # suffixes that a summary names


class Listing:
    """Files that are taken as images by their suffixes, whose case does not matter, and counts of the others."""

    def __init__(self, suffixes: tuple[str, ...]):
        self.suffixes = suffixes
        self.files: list[str] = []
        self._hidden: Counter[str] = Counter()
        self._others: Counter[str] = Counter()

    def add(self, folder: Path, name: str, relative: str, in_hidden_folder: bool = False) -> None:
        """Take the file `name` of a folder as `relative`, or count why it is left out."""
        suffix = os.path.splitext(name)[1].lower()
        hidden = name.startswith(".")
        if suffix not in self.suffixes:
            if not (hidden or in_hidden_folder):
                self._others[suffix or "none"] += 1
        elif in_hidden_folder:
            self._hidden["in hidden folders"] += 1
        elif hidden:
            self._hidden["hidden"] += 1
        elif os.path.exists(folder / name) and not os.path.isfile(folder / name):
            self._hidden["no regular files"] += 1
        else:
            self.files.append(relative)

    @property
    def skipped(self) -> str:
        """What was left out, by reason; "" if nothing was."""
        parts = [f"{count} {reason}" for reason, count in sorted(self._hidden.items())]
        if self._others:
            parts.append(f"{self._others.total()} with other suffixes ({_named(self._others)})")
        return ", ".join(parts)

    def __str__(self) -> str:
        taken = f"{len(self.files):,} image{'s' * (len(self.files) != 1)} taken"
        return f"{taken}; left out: {self.skipped or 'nothing'}"


def _named(suffixes: Iterable[str]) -> str:
    names = sorted(suffixes)
    return ", ".join([*names[:SHOWN], *["..."] * (len(names) > SHOWN)])

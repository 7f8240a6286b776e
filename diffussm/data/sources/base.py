"""The interface of sources, and names as they are printed."""

from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from diffussm.errors import UserError

Split = Literal["train", "val", "test"]
IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".avif"
)  # fmt: skip
MAX_CLASSES = 100_000
SPLIT_FOLDERS = {"train", "training", "val", "valid", "validation", "test", "testing"}
MAX_IMAGES = 1 << 25  # of one file of arrays, whose list takes some 10 GB


class Entry(NamedTuple):
    """An image of a source."""

    name: str  # relative, "/" between its parts; bytes that are no UTF-8 are surrogates
    size: int  # bytes
    label: int | None = None  # index into the classes of its listing
    place: tuple[int, ...] = ()  # where in its file the source finds it, and what else identifies it


class Found(NamedTuple):
    """The images of a source in their order, the names of its classes (none: no labels), and what was left out."""

    entries: list[Entry]
    classes: tuple[str, ...]
    skipped: dict[str, int]  # reason to number of files
    modified: str = ""  # digest of when files were changed, if nothing else tells that their content has changed
    unlabelled: str = ""  # what keeps it without labels, although it looks as if it had some


class Broken(Exception):
    """An image that cannot be used, with the reason, and details of this one."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail

    def __str__(self) -> str:
        return f"{self.reason} ({self.detail})" if self.detail else self.reason


class Origin(Protocol):
    """Where what a data set stores came from."""

    @property
    def kind(self) -> str:
        """Return the name of the format."""

    @property
    def path(self) -> Path:
        """Return where it lies."""

    def naming(self, entry: Entry) -> str:
        """Return how a message names the image."""


class Source(Origin, Protocol):
    """Images at a path. It is small and can be pickled: other processes read entries of it."""

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """Return (C, H, W) of its arrays; None if it consists of image files of any size."""

    def listed(self) -> Found:
        """Return what there is, the same order at every call; UserError if it cannot be listed."""

    def read(self, entry: Entry) -> bytes | NDArray[np.uint8]:
        """Return the content of an image's file, or its pixels (H, W, C); Broken if it cannot be read."""


def check_count(count: int, path: Path) -> None:
    """Raise UserError if a file of arrays holds more images than are listed."""
    if count > MAX_IMAGES:
        raise UserError(f"{path}: holds {count:,} images; allowed: up to {MAX_IMAGES:,} in one file")


def check_classes(found: Found, instead: str = "") -> None:
    """Raise UserError if what looks like classes are the splits of a data set; `instead` says what else there is."""
    if len(found.classes) > 1 and {"train", "training"} & set(found.classes) and set(found.classes) <= SPLIT_FOLDERS:
        raise UserError(
            f"the folders {', '.join(found.classes)} are splits, not classes: give the path of one of them{instead}"
        )


def printable(name: str) -> str:
    """Return the name in one line, different for different names: unprintable characters and backslashes escaped."""
    if name.isprintable() and "\\" not in name:
        return name
    return "".join(c if c.isprintable() and c != "\\" else c.encode("unicode_escape").decode() for c in name)


def labelled_by_folder(entries: list[Entry]) -> tuple[list[Entry], tuple[str, ...]]:
    """Return the entries with their top-level folders as labels, in the order of their names, and these names.

    They stay without labels unless each is in such a folder, and there are two or more of these.
    """
    tops = [entry.name.partition("/") for entry in entries]
    names = sorted({top for top, _, _ in tops})
    if len(names) < 2 or not all(separator for _, separator, _ in tops):
        return entries, ()
    index = {name: label for label, name in enumerate(names)}
    return [entry._replace(label=index[top]) for entry, (top, _, _) in zip(entries, tops, strict=True)], tuple(names)


def outside_folders(entries: list[Entry]) -> str:
    """Return how many images lie beside the folders that would be their classes; "" if none does, or there are fewer
    than two such folders."""
    outside = [entry.name for entry in entries if "/" not in entry.name]
    folders = {entry.name.partition("/")[0] for entry in entries if "/" in entry.name}
    if not outside or len(folders) < 2:
        return ""
    lie = "image lies" if len(outside) == 1 else "images lie"
    such_as = "" if len(outside) == 1 else "such as "
    return f"{len(outside):,} {lie} outside the {len(folders):,} subfolders ({such_as}{printable(outside[0])})"

"""Folders of image files, classes in subfolders or not; ImageNet's `train/<wnid>/` is one."""

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from diffussm.data.pixels.listing import Listing, is_hidden_folder
from diffussm.data.sources.base import (
    IMAGE_SUFFIXES,
    Broken,
    Entry,
    Found,
    labelled_by_folder,
    outside_folders,
    printable,
)
from diffussm.errors import UserError

_OF_THE_FILE = (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ELOOP)  # not of the disk


@dataclass(frozen=True)
class ImageFolder:
    """The images of a folder and its subfolders, or other files by `suffixes`, in the order of their relative paths."""

    path: Path
    kind: str = "folder"
    suffixes: tuple[str, ...] = IMAGE_SUFFIXES
    shape: ClassVar[None] = None

    def listed(self) -> Found:
        listing = image_files(self.path, self.suffixes)
        entries, classes = labelled_by_folder([Entry(name, size) for name, size in listing.found])
        return Found(entries, classes, listing.counts, listing.modified, outside_folders(entries))

    def read(self, entry: Entry) -> bytes:
        try:
            return (self.path / entry.name).read_bytes()
        except OSError as error:
            if error.errno not in _OF_THE_FILE:
                raise
            raise Broken("cannot be read", error.strerror or str(error)) from None

    def naming(self, entry: Entry) -> str:
        return f"{self.path}/{printable(entry.name)}"


def image_files(root: Path, suffixes: tuple[str, ...] = IMAGE_SUFFIXES) -> Listing:
    """Return the image files by relative paths, sorted as text with "/" between names, and what was left out.

    Links are followed unless they form a cycle. Hidden files and the content of hidden folders are left out. Raises
    UserError if there is no folder, or no image in it."""
    if not root.is_dir():
        raise UserError(f"{root}: {'not a folder' if root.exists() else 'no such folder'}")
    listing = Listing(suffixes)
    for walked, subfolders, files in os.walk(root, onerror=_raise, followlinks=True):
        folder = Path(walked)
        ancestors = {ancestor.resolve() for ancestor in (folder, *folder.parents)}
        subfolders[:] = [name for name in subfolders if (folder / name).resolve() not in ancestors]
        parts = folder.relative_to(root).parts
        hidden = any(map(is_hidden_folder, parts))
        for name in files:
            listing.add(folder, name, "/".join((*parts, name)), hidden)
    if not listing.found:
        raise UserError(f"{root}: holds no images ({' '.join(suffixes)}), nor do its subfolders; {listing}")
    listing.found.sort()
    return listing


def _raise(error: OSError) -> None:
    raise error

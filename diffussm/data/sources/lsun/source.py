"""LSUN's LMDB (https://www.yf.io/p/lsun): a folder with `data.mdb`, of which each value is an image as WebP."""

import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from diffussm.data.sources.base import Broken, Entry, Found, printable
from diffussm.data.sources.files import modified
from diffussm.data.sources.lsun.structure import keys_and_sizes
from diffussm.errors import UserError

DATA = "data.mdb"
_FOLDER = re.compile(r"(?:(.+)_)?(train|val|test)_lmdb")


@dataclass(frozen=True)
class Lsun:
    """The images of a folder with `data.mdb`, in the order of their keys. They have no classes."""

    path: Path
    kind: ClassVar[str] = "lsun"
    shape: ClassVar[None] = None

    def listed(self) -> Found:
        _library(self.path)
        entries = [
            Entry(key.decode("utf-8", "surrogateescape"), size) for key, size in keys_and_sizes(self.path / DATA)
        ]
        if not entries:
            raise UserError(f"{self.path / DATA}: holds no images")
        with _lock:
            _opened.clear()
        _environment(self.path)
        return Found(entries, (), {}, modified([self.path / DATA]))

    def read(self, entry: Entry) -> bytes:
        environment = _environment(self.path)
        try:
            with environment.begin() as transaction:
                content: bytes | None = transaction.get(entry.name.encode("utf-8", "surrogateescape"))
        except _library(self.path).Error as error:
            raise Broken("cannot be read", printable(str(error))) from None
        if content is None:
            raise Broken("is missing")
        return content

    def naming(self, entry: Entry) -> str:
        return f"{self.path}: {printable(entry.name)}"


def lsun(path: Path, split: str) -> Lsun | None:
    """Return the source if LSUN lies in the folder, for which the folders `<class>_<split>_lmdb` of a class are one;
    None otherwise. UserError if it is another split's, or of several classes."""
    if (path / DATA).exists():
        match = _FOLDER.fullmatch(path.absolute().name)
        if split and (not match or match[2] != split):
            why = f"these are the images of {match[2]}" if match else f"this folder is not named <class>_{split}_lmdb"
            raise UserError(f"{path}: --split {split}: {why}")
        return Lsun(path)
    inner = [folder for folder in sorted(path.iterdir()) if _FOLDER.fullmatch(folder.name) and (folder / DATA).exists()]
    chosen = [folder for folder in inner if folder.name.endswith(f"{split or 'train'}_lmdb")]
    if len(chosen) > 1:
        names = ", ".join(printable(folder.name) for folder in chosen)
        raise UserError(f"{path}: holds several classes of LSUN ({names}); give the folder of one")
    if inner and not chosen:
        raise UserError(f"{path}: holds no folder <class>_{split or 'train'}_lmdb; choose another with --split")
    return Lsun(chosen[0]) if chosen else None


_lock = threading.Lock()
_opened: dict[tuple[Path, int], Any] = {}  # at most one; of this process, as lmdb's environments do not survive a fork


def _environment(path: Path) -> Any:
    """Return the open LMDB, the same for all threads of a process; UserError if lmdb does not open it."""
    library, key = _library(path), (path, os.getpid())
    with _lock:
        if key not in _opened:
            _opened.clear()
            try:
                _opened[key] = library.open(str(path), readonly=True, lock=False, readahead=False, meminit=False)
            except (library.Error, MemoryError, OverflowError) as error:
                raise UserError(f"{path / DATA}: lmdb does not open it: {printable(str(error))}") from None
        return _opened[key]


def _library(path: Path) -> Any:
    try:
        import lmdb
    except ImportError:
        raise UserError(f"{path}: LSUN's LMDB needs the package lmdb, the extra `lsun`; pip install lmdb") from None
    return lmdb

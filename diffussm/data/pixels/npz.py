"""Reading of ADM's .npz files: images in pieces, small arrays whole."""

import math
import os
import struct
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from diffussm.data.npz_header import Header, naming_damage, open_archive, read_header
from diffussm.data.pixels.base import Shape, spans
from diffussm.errors import UserError
from diffussm.store.hashes import file_sha256

_BLOCK = 1 << 20  # bytes read at once


class NpzPixels:
    """`arr_0` of an .npz: uint8 (N, H, W, C) with C 1 or 3, in C order, stored or deflated; given as (N, C, H, W).

    UserError in one line that names the file: absent, damaged, or anything else than that. A stored member is read from
    `start` on, a deflated one from its beginning. The zip's CRC is checked in a stored one by whoever reads it from its
    first image to its last, in a deflated one by whoever reads its last.
    """

    def __init__(self, path: Path):
        self.path = path
        with open_archive(path) as file:
            self._file_identity = _file_identity(os.fstat(file.fileno()))
            self._images = self._find(file)
        self.count, height, width, channels = self._images.header.shape
        self.shape: Shape = (channels, height, width)

    def batches(self, size: int, start: int = 0, stop: int | None = None) -> Iterator[NDArray[np.uint8]]:
        channels, height, width = self.shape
        batches = spans(self.count, size, start, stop)
        with open_archive(self.path) as file:
            self._check_version(os.fstat(file.fileno()))
            if self._find(file) != self._images:
                raise self._changed()
            with self._content(file, start * math.prod(self.shape)) as content:
                for first, last in batches:
                    images = np.empty((last - first, height, width, channels), dtype=np.uint8)
                    _fill(images.data.cast("B"), content)
                    if last == self.count and isinstance(content, zipfile.ZipExtFile):
                        content.read(1)  # at the end of a member zipfile compares the CRC
                    yield np.ascontiguousarray(images.transpose(0, 3, 1, 2))  # (n, C, H, W)

    @property
    def sha256(self) -> str:
        found = file_sha256(self.path)
        self._check_version(self.path.stat())
        return found

    def _check_version(self, found: os.stat_result) -> None:
        if _file_identity(found) != self._file_identity:
            raise self._changed()

    def _changed(self) -> UserError:
        return UserError(f"{self.path}: has been replaced or changed since it was opened")

    def _find(self, file: IO[bytes]) -> "_Images":
        with zipfile.ZipFile(file) as archive:
            if "arr_0.npy" not in archive.namelist():
                raise UserError(f"{self.path}: contains no array arr_0, which must hold the images; {_listed(archive)}")
            info = archive.getinfo("arr_0.npy")
            header = read_header(archive, info, f"{self.path}: arr_0")
        _check_images(header, f"{self.path}: arr_0")
        return _Images(header, info.header_offset, info.compress_type == zipfile.ZIP_STORED, info.CRC)

    @contextmanager
    def _content(self, file: IO[bytes], offset: int) -> Iterator[IO[bytes]]:
        """Yield a file that reads the array's bytes from `offset` on."""
        header, member_offset, stored, _ = self._images
        if stored and offset:
            file.seek(member_offset + 26)  # local file header: lengths of name and extra field
            file.seek(sum(struct.unpack("<HH", file.read(4))) + header.size + offset, os.SEEK_CUR)
            yield file
        else:
            with zipfile.ZipFile(file) as archive, archive.open("arr_0.npy") as member:
                to_skip = header.size + offset
                while to_skip:
                    to_skip -= len(_read_some(member, min(to_skip, _BLOCK)))
                yield member


def read_arrays(path: Path, names: Iterable[str]) -> dict[str, NDArray[Any]]:
    """Return those of the small arrays `names` that an .npz has; UserError names file and array.

    It is raised for damage, Python objects and non-finite numbers.
    """
    with open_archive(path) as file, zipfile.ZipFile(file) as archive:
        present = set(archive.namelist())
        return {name: _array(archive, name, f"{path}: {name}") for name in names if f"{name}.npy" in present}


class _Images(NamedTuple):
    header: Header
    member_offset: int  # of the member in the file
    stored: bool
    crc: int


def _listed(archive: zipfile.ZipFile) -> str:
    names = sorted(archive.namelist())
    more = ", ..." if len(names) > 8 else ""
    return f"it holds {', '.join(name.removesuffix('.npy') for name in names[:8]) or 'nothing'}{more}"


def _check_images(header: Header, what: str) -> None:
    shape = header.shape
    if header.dtype != np.uint8:
        scale = "; levels in 0 .. 1 must be scaled and rounded first" if header.dtype.kind == "f" else ""
        raise UserError(f"{what}: is {header.dtype}; allowed: uint8, grey levels 0 .. 255{scale}")
    if len(shape) != 4 or shape[3] not in (1, 3):
        raise UserError(f"{what}: has shape {shape}; allowed: (N, H, W, C), with 1 or 3 channels C")
    if header.fortran:
        raise UserError(f"{what}: is in Fortran order; allowed: C order (numpy.ascontiguousarray before it is saved)")
    if 0 in shape:
        raise UserError(f"{what}: holds no images: its shape is {shape}")


def _read_some(content: IO[bytes], size: int) -> bytes:
    if not (some := content.read(size)):
        raise EOFError("it ends too early")
    return some


def _fill(view: memoryview, content: IO[bytes]) -> None:
    while view:
        some = _read_some(content, min(len(view), _BLOCK))
        view[: len(some)] = some
        view = view[len(some) :]


def _array(archive: zipfile.ZipFile, name: str, what: str) -> NDArray[Any]:
    info = archive.getinfo(f"{name}.npy")
    header = read_header(archive, info, what)
    with naming_damage(what), archive.open(info) as member:
        content = member.read()[header.size :]
        order: Any = "F" if header.fortran else "C"
        array = np.ndarray(header.shape, header.dtype, content, order=order).copy()
    if header.dtype.kind in "fc" and not np.isfinite(array).all():
        raise UserError(f"{what}: holds numbers that are not finite")
    return array


def _file_identity(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_ino, found.st_size, found.st_mtime_ns
